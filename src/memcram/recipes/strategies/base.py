"""Types exchanged by engine and strategy."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Outcome(StrEnum):
    """How the optimisation of a text ended."""

    CORRECT = "right"
    """Every counted token is the argmax under teacher forcing; decoding still has to confirm it."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    NON_FINITE = "non_finite"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Measurement:
    """Measurement of one slot at its current vectors, under teacher forcing.

    Held tokens are the correct ones, or, for a strategy that keeps a prefix, those before the first
    wrong one.

    Attributes:
        step: optimiser steps done before this measurement.
        n_tokens: tokens the loss runs over.
        n_held: tokens held by these vectors, including those of the lookahead.
        max_held: largest `n_held` so far, including this measurement.
        max_held_step: step at which `max_held` was first reached, or the slot was restored.
        min_margin: smallest margin over the tokens of the loss, in logits.
        loss: mean loss, over the same tokens.
        text_tokens: tokens of the whole text, the maximum of `n_tokens`.
        token_steps: positions of this text that went forward so far, including this measurement.
    """

    step: int
    n_tokens: int
    n_held: int
    max_held: int
    max_held_step: int
    min_margin: float
    loss: float
    text_tokens: int
    token_steps: int


@dataclass(frozen=True)
class Continue:
    """Take another step."""


@dataclass(frozen=True)
class Retarget:
    """Let the loss run over the first `n_tokens` tokens from now on.

    With `restore`, the slot returns to its best vectors, with a fresh optimiser. Without `step`,
    the slot takes no step now, so the new target begins at the vectors just measured; texts of a
    group that share parameters take their step nevertheless.
    """

    n_tokens: int
    restore: bool = False
    step: bool = True


@dataclass(frozen=True)
class Stop:
    """End the optimisation of the text with its best vectors."""

    outcome: Outcome


Decision = Continue | Retarget | Stop


@runtime_checkable
class Strategy(Protocol):
    """Decides what to do with each slot; frozen hyper-parameters without state."""

    @property
    def steps(self) -> int:
        """Budget in optimiser steps."""

    @property
    def keeps_prefix(self) -> bool:
        """Whether only the tokens before the first wrong one count as held."""

    @property
    def held_margin(self) -> float:
        """A token counts as held if its margin (logits) exceeds this."""

    @property
    def lookahead(self) -> int:
        """Tokens beyond the loss that are measured too."""

    @property
    def every_step(self) -> bool:
        """Whether the strategy must see every measurement, on any device."""

    def first_target(self, text_tokens: int) -> int:
        """Tokens the loss runs over at first."""

    def decide(self, measured: Measurement) -> Decision:
        """Decide what to do after a measurement."""

    def is_spent(self, steps: int, token_steps: int) -> bool:
        """Whether a text that took this many steps and token-steps has used up its budget."""

    def with_steps(self, steps: int) -> "Strategy":
        """The same strategy with another budget in optimiser steps."""

    def with_margin(self, at_least: float) -> "Strategy":
        """The same strategy, which accepts only margins above `at_least` logits."""
