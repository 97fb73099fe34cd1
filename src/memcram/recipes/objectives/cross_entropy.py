"""Cross-entropy."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memcram.models.accounting import margins
from memcram.recipes.objectives.base import TokenScores


@dataclass(frozen=True)
class CrossEntropy:
    """−log p(tᵢ), in nats: the loss of both published recipes."""

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        loss = functional.cross_entropy(wide, targets, reduction="none")
        return TokenScores(loss, margins(logits.detach(), targets))
