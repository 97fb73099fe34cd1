"""Cross-entropy."""

import torch
from torch import Tensor
from torch.nn import functional

from memcram.models.accounting import margins
from memcram.recipes.component import component
from memcram.recipes.objectives.base import TokenScores


@component
class CrossEntropy:
    """−log p(tᵢ), in nats: the loss of both published recipes."""

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        loss = functional.cross_entropy(wide, targets, reduction="none")
        return TokenScores(loss, margins(logits.detach(), targets))

    def with_margin(self, at_least: float) -> "CrossEntropy":
        """The same loss: its gradient has no width to adjust."""
        return self
