"""Optimisers over slot rows: a text never influences its neighbour."""

from memcram.recipes.optimisers.adamw import AdamW

__all__ = ["AdamW"]
