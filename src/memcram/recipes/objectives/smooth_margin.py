"""Softplus loss on the margin."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from memcram.models.accounting import margins
from memcram.recipes.objectives.base import TokenScores
from memcram.recipes.ranges import Positive


@dataclass(frozen=True)
class SmoothMargin:
    """τ · softplus(−margin / τ): a hinge at 0 with a rounded corner of width τ (logits).

    Cross-entropy keeps paying for tokens that are already right; this one stops paying once the
    margin is a few τ, and never drops a token that could slip back.
    """

    tau: Positive = 0.2

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        margin = margins(logits, targets)
        return TokenScores(self.tau * functional.softplus(-margin / self.tau), margin.detach())
