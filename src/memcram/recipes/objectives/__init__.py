"""Objectives: losses per token, one file per loss."""

from memcram.recipes.objectives.base import Objective, TokenScores
from memcram.recipes.objectives.cross_entropy import CrossEntropy
from memcram.recipes.objectives.hinge_margin import HingeMargin
from memcram.recipes.objectives.smooth_margin import SmoothMargin

__all__ = [
    "CrossEntropy",
    "HingeMargin",
    "Objective",
    "SmoothMargin",
    "TokenScores",
]
