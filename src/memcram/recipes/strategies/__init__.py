"""Strategies: when to grow, back off or stop; one file per strategy."""

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
