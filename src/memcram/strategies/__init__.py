"""Strategies: what to do with a slot after a measurement."""

from memcram.strategies.base import Continue, Decision, Measurement, Outcome, Stop, Strategy
from memcram.strategies.fixed import Fixed

__all__ = ["Continue", "Decision", "Fixed", "Measurement", "Outcome", "Stop", "Strategy"]
