"""Optimisers over slot rows: a text never influences its neighbour."""

from memcram.optimisers.adamw import AdamW

__all__ = ["AdamW"]
