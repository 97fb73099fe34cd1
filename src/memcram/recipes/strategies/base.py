"""The words between the engine and a strategy."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class Outcome(StrEnum):
    """How the optimisation of a text ended."""

    CORRECT = "right"
    """Every counted token is the argmax under teacher forcing; decoding has yet to confirm it."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    NON_FINITE = "non_finite"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Measurement:
    """What the engine saw of one slot at its current vectors, under teacher forcing.

    "Held" is a count of right tokens: all of them for a strategy that keeps every right token,
    those before the first wrong one for a strategy that keeps a prefix.

    Attributes:
        step: optimiser steps done before this measurement.
        n_tokens: tokens the loss runs over.
        n_held: tokens held by these vectors, those the strategy looks ahead at included.
        max_held: the largest `n_held` so far, this measurement included.
        max_held_step: the step at which `max_held` was first seen.
        min_margin: smallest margin over the tokens of the loss, in logits.
        loss: mean loss, over the same tokens.
        text_tokens: tokens the text has; `n_tokens` may grow up to it.
        token_steps: positions of this text that went forward so far, this measurement included.
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

    With `restore`, the slot goes back to the best vectors it had, with a fresh optimiser. Without
    `step`, the new target begins from the very vectors that were measured; the texts of a group
    that share parameters step all the same.
    """

    n_tokens: int
    restore: bool = False
    step: bool = True


@dataclass(frozen=True)
class Stop:
    """Retire the slot with the best vectors it had."""

    outcome: Outcome


Decision = Continue | Retarget | Stop


@runtime_checkable
class Strategy(Protocol):
    """Decides for each slot apart; a frozen set of hyper-parameters."""

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
        """Whether it must see each measurement, on any device."""

    def first_target(self, text_tokens: int) -> int:
        """Tokens the loss runs over at the start."""

    def decide(self, measured: Measurement) -> Decision:
        """What to do after `measured`."""

    def with_steps(self, steps: int) -> "Strategy":
        """The same strategy with another budget in optimiser steps."""

    def with_margin(self, at_least: float) -> "Strategy":
        """The same strategy, content only with margins above `at_least` logits."""
