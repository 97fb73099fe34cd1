"""Hinge loss on the margin."""

from dataclasses import replace

from torch import Tensor

from memcram.models.accounting import margins
from memcram.recipes.component import component
from memcram.recipes.objectives.base import TokenScores
from memcram.recipes.ranges import AtLeastOne, NotNegative


@component
class HingeMargin:
    """max(0, τ − margin)^power: no gradient for a token whose margin exceeds τ.

    Attributes:
        tau: margin in logits at which the loss reaches 0.
        power: 1 for the hinge loss, 2 for the squared hinge loss.
    """

    tau: NotNegative = 0.5
    power: AtLeastOne = 1

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        margin = margins(logits, targets)
        return TokenScores(self.of_margin(margin), margin.detach())

    def of_margin(self, margin: Tensor) -> Tensor:
        """Loss (token,) of margins (token,) in logits."""
        loss: Tensor = (self.tau - margin).clamp(min=0) ** self.power
        return loss

    def with_margin(self, at_least: float) -> "HingeMargin":
        """The same loss with τ of at least twice the margin."""
        return replace(self, tau=max(self.tau, 2 * at_least))
