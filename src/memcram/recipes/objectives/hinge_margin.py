"""Hinge loss on the margin."""

from dataclasses import dataclass

from torch import Tensor

from memcram.models.accounting import margins
from memcram.recipes.objectives.base import TokenScores
from memcram.recipes.ranges import AtLeastOne, NotNegative


@dataclass(frozen=True)
class HingeMargin:
    """max(0, τ − margin)^power: no gradient for a token whose margin exceeds τ.

    Attributes:
        tau: the margin (logits) beyond which a token costs nothing.
        power: 1 hinge, 2 squared hinge.
    """

    tau: NotNegative = 0.5
    power: AtLeastOne = 1

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        margin = margins(logits, targets)
        return TokenScores((self.tau - margin).clamp(min=0) ** self.power, margin.detach())
