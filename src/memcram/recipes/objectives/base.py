"""What an objective is: a loss and a margin per token."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class TokenScores:
    """Loss and margin of each counted token, both (token,), with gradients to the logits."""

    loss: Tensor
    margin: Tensor


class Objective(Protocol):
    """A loss per token; the engine takes its mean over each text's counted tokens."""

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""


class Texts(Protocol):
    """The texts of a batch, as a loss may see them: which token is whose, and where each stands.

    Attributes:
        rows: state by name; `step` (text,) are optimiser steps done, `most_held_step` (text,) the
            step at which one more token was held for the last time, or the slot was put back to
            earlier vectors.
        cells: (2, counted) text and index of each counted token, in the order of the logits; the
            logits have rows of padding behind them.
        in_loss: (text, token), those that are not only looked ahead at.
    """

    rows: dict[str, Tensor]
    cells: Tensor
    in_loss: Tensor

    def table(self, values: Tensor, fill: float) -> Tensor:
        """Spread one value per counted token over (text, token), `fill` where none is counted."""


class TextObjective(ABC):
    """A loss per token that depends on the other tokens of its text, or on its steps.

    The engine hands over all counted tokens of a batch at once, whatever memory their logits take.
    """

    @abstractmethod
    def of_texts(self, texts: Texts) -> Objective:
        """The loss for these texts, at this step."""
