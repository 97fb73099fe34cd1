"""Strategies: what to do with a slot after a measurement, one file per strategy."""

from memcram.recipes.strategies.base import (
    Continue,
    Decision,
    Measurement,
    Outcome,
    Retarget,
    Stop,
    Strategy,
)

__all__ = [
    "Continue",
    "Decision",
    "Measurement",
    "Outcome",
    "Retarget",
    "Stop",
    "Strategy",
]
