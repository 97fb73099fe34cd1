"""Cross-entropy at a low temperature."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from memcram.models.accounting import margins
from memcram.recipes.component import component
from memcram.recipes.objectives.base import TokenScores
from memcram.recipes.ranges import Positive


@component
class ColdCrossEntropy:
    """T · CE(z / T) of the logits z, in nats: a margin loss with a soft maximum.

    For T → 0 it becomes max(0, −margin); T = 1 is cross-entropy. With T = 0.25 a vector of
    Pythia-1.4B holds 1.6 times the tokens of T = 1. Source: development repository of Tarasov et
    al., July 2026, which has CE(z / T) without the factor; AdamW does not depend on it.

    Attributes:
        T: temperature, in logits.
    """

    T: Positive = 0.25

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        loss = self.T * functional.cross_entropy(wide / self.T, targets, reduction="none")
        return TokenScores(loss, margins(logits.detach(), targets))

    def with_margin(self, at_least: float) -> "ColdCrossEntropy":
        """The same loss with T of at least half the margin."""
        return replace(self, T=max(self.T, at_least / 2))
