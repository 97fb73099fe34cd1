"""Interface of an objective: a loss and a margin per token."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class TokenScores:
    """Loss and margin of each counted token.

    Attributes:
        loss: (token,), with gradient to the logits.
        margin: (token,) in logits, without gradient.
    """

    loss: Tensor
    margin: Tensor


@runtime_checkable
class Objective(Protocol):
    """Loss per token; the engine minimises its mean over each text's counted tokens."""

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""

    def with_margin(self, at_least: float) -> "Objective":
        """Return the same loss, wide enough for a gradient at margins of `at_least` logits."""


@runtime_checkable
class MarginObjective(Objective, Protocol):
    """Loss that depends on the margin alone, so that most logits need no gradient."""

    def of_margin(self, margin: Tensor) -> Tensor:
        """Loss (token,) of margins (token,) in logits."""
