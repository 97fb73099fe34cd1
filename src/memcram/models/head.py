"""Apply the head: final hidden states to logits, or to margins without all logits in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memcram.models.linear import frozen_linear

# Logits held at once while searching: rows × vocabulary entries, 16 MiB in float32. Neither
# depends on the batch, so a row's result does not either.
_SEARCH_ROWS = 512
_SEARCH_TOKENS = 8192


@dataclass(frozen=True)
class Head:
    """Logits post(W before(h) + b) of hidden states h, where `post` is elementwise.

    Attributes:
        linear: W (vocabulary, d) and b; frozen.
        before: what is applied to the hidden states first (ModernBERT); None for nothing.
        scale: factor on the logits (Cohere, Granite).
        cap: soft cap on the logits, cap · tanh(z / cap) (Gemma-2); None without one.
    """

    linear: Any
    before: Callable[[Tensor], Tensor] | None = None
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., vocabulary) of hidden states (..., d)."""
        return self._post(self.linear(self._inputs(hidden)))

    def margins(self, hidden: Tensor, targets: Tensor, search: "Head | None" = None) -> Tensor:
        """Target logit minus best other logit, with a gradient through these two alone.

        Args:
            hidden: (n, d).
            targets: (n,) ids.
            search: the same head in a lower precision, to find the best other token with; None:
                this one.

        Returns:
            (n,) in float32, or float64 if the weights are.
        """
        inputs = self._inputs(hidden)
        others = (search or self)._best_others(inputs.detach(), targets)
        weight, bias = self.linear.weight, self.linear.bias
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        ids = torch.stack([targets, others], 1)  # (n, 2)
        logits = (weight[ids].to(wide) * inputs.to(wide).unsqueeze(1)).sum(-1)
        logits = self._post(logits if bias is None else logits + bias[ids].to(wide))
        return logits[:, 0] - logits[:, 1]

    def _inputs(self, hidden: Tensor) -> Tensor:
        hidden = hidden.to(self.linear.weight.dtype)
        return hidden if self.before is None else self.before(hidden)

    def _post(self, logits: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits

    @torch.no_grad()
    def _best_others(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Find the ids (n,) of the largest logits other than the targets'."""
        pieces = zip(inputs.split(_SEARCH_ROWS), targets.split(_SEARCH_ROWS), strict=True)
        return torch.cat([self._search(rows, ids) for rows, ids in pieces])

    def _search(self, inputs: Tensor, targets: Tensor) -> Tensor:
        weight, bias = self.linear.weight, self.linear.bias
        inputs = inputs.to(weight.dtype)
        index = targets[:, None]
        best = inputs.new_full((len(inputs),), float("-inf"))
        best_id = torch.zeros_like(targets)
        for first in range(0, len(weight), _SEARCH_TOKENS):
            part = slice(first, first + _SEARCH_TOKENS)
            linear = frozen_linear(inputs, weight[part], None if bias is None else bias[part])
            logits = self._post(linear)
            # The target is excluded where it is in this block, without asking the device.
            local = (index - first).clamp(0, logits.shape[1] - 1)
            is_target = local + first == index
            masked = logits.gather(1, local).masked_fill(is_target, float("-inf"))
            value, at = logits.scatter_(1, local, masked).max(1)
            is_better = value > best
            best = torch.where(is_better, value, best)
            best_id = torch.where(is_better, at + first, best_id)
        return best_id
