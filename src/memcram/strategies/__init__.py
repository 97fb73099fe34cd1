"""Strategies: what to do with a slot after a measurement."""

from memcram.strategies.base import (
    Continue,
    Decision,
    Measurement,
    Outcome,
    Retarget,
    Stop,
    Strategy,
)
from memcram.strategies.fixed import Fixed
from memcram.strategies.horizon import Horizon
from memcram.strategies.progressive import Progressive

__all__ = [
    "Continue",
    "Decision",
    "Fixed",
    "Horizon",
    "Measurement",
    "Outcome",
    "Progressive",
    "Retarget",
    "Stop",
    "Strategy",
]
