"""The words between the engine and a strategy."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Outcome(StrEnum):
    """How the optimisation of a text ended."""

    RIGHT = "right"
    """Every counted token is the argmax under teacher forcing; decoding has yet to confirm it."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    NON_FINITE = "non_finite"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Measurement:
    """What the engine saw of one slot at its current vectors, under teacher forcing.

    Attributes:
        step: optimiser steps done before this measurement.
        n_counted: tokens the loss runs over.
        n_right: counted tokens that are the argmax.
        best_right: the largest `n_right` so far, this measurement included.
        best_right_step: the step at which `best_right` was first seen.
        min_margin: smallest margin over the counted tokens, in logits.
        loss: mean loss over the counted tokens.
    """

    step: int
    n_counted: int
    n_right: int
    best_right: int
    best_right_step: int
    min_margin: float
    loss: float


@dataclass(frozen=True)
class Continue:
    """Take another step."""


@dataclass(frozen=True)
class Stop:
    """Retire the slot with the best vectors it had."""

    outcome: Outcome


Decision = Continue | Stop


class Strategy(Protocol):
    """Decides for each slot apart; a frozen set of hyper-parameters."""

    def decide(self, measured: Measurement) -> Decision:
        """What to do after `measured`."""

    def with_steps(self, steps: int) -> "Strategy":
        """The same strategy with another budget in optimiser steps."""
