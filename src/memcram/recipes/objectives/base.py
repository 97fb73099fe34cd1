"""What an objective is: a loss and a margin per token."""

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
