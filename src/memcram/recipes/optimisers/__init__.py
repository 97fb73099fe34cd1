"""Optimisers with one step count per text, one file per optimiser."""
