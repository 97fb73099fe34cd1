"""Softplus loss on the margin."""

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from memcram.models.accounting import margins
from memcram.recipes.component import component
from memcram.recipes.objectives.base import TokenScores
from memcram.recipes.ranges import Positive


@component
class SmoothMargin:
    """τ · softplus(−margin / τ): a hinge at 0 with a corner rounded over a width of τ.

    Cross-entropy keeps a gradient on tokens that are already correct. This loss fades out once the
    margin is a few τ, and the gradient returns as soon as the margin shrinks.

    Attributes:
        tau: width of the corner in logits.
    """

    tau: Positive = 0.2

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        margin = margins(logits, targets)
        return TokenScores(self.of_margin(margin), margin.detach())

    def of_margin(self, margin: Tensor) -> Tensor:
        """Loss (token,) of margins (token,) in logits."""
        return self.tau * functional.softplus(-margin / self.tau)

    def with_margin(self, at_least: float) -> "SmoothMargin":
        """The same loss with τ of at least half the margin.

        At 2 logits that holds four times the tokens of τ = 0.1 (docs/findings-pocket.md).
        """
        return replace(self, tau=max(self.tau, at_least / 2))
