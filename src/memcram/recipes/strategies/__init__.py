"""Strategies: what to do with a slot after a measurement."""

from memcram.recipes.strategies.base import (
    Continue,
    Decision,
    Measurement,
    Outcome,
    Retarget,
    Stop,
    Strategy,
)
from memcram.recipes.strategies.fixed import Fixed
from memcram.recipes.strategies.horizon import Horizon
from memcram.recipes.strategies.progressive import Progressive
from memcram.recipes.strategies.token_budget import TokenBudget

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
    "TokenBudget",
]
