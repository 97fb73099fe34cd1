"""AdamW with one step count per slot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memcram.models.memory import upload
from memcram.recipes.component import component
from memcram.recipes.ranges import AtLeastOne, BelowOne, Count, NotNegative, Positive


@dataclass
class Moments:
    """Running averages of the gradient (`m`) and its square (`v`), shaped like the parameter."""

    m: Tensor
    v: Tensor


@component
class AdamW:
    """Adam with decoupled weight decay, elementwise, each slot counting its own steps.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,
    x ← x (1 − η λ) − η · m̂ / (√v̂ + ε),  m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

    η may depend on t: it rises linearly over `warmup` steps, then falls along half a cosine to
    `final_lr` at step `decay_steps`, where it stays.

    torch.optim.AdamW keeps one step count per tensor, so slots filled at different times would
    need a tensor each; a test compares the two. Source: Loshchilov and Hutter, ICLR 2019.

    Attributes:
        lr: η, the learning rate.
        betas: (β₁, β₂).
        eps: ε.
        weight_decay: λ.
        warmup: steps to reach `lr`; step t has lr · t / warmup.
        decay_steps: the step that reaches `final_lr`; None keeps `lr`.
        final_lr: learning rate at the end of the decay.
    """

    lr: Positive = 1.0
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.9)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0
    warmup: Count = 0
    decay_steps: AtLeastOne | None = None
    final_lr: NotNegative = 0.0

    def rate(self, t: int) -> float:
        """η at step t, counting from 1."""
        if t <= self.warmup:
            return self.lr * t / self.warmup
        if self.decay_steps is None:
            return self.lr
        done = min(1.0, (t - self.warmup) / max(1, self.decay_steps - self.warmup))
        return self.final_lr + (self.lr - self.final_lr) * (1 + math.cos(math.pi * done)) / 2

    def with_steps(self, steps: int) -> "AdamW":
        """The same rule for a budget of `steps`; a decay ends there."""
        return self if self.decay_steps is None else replace(self, decay_steps=steps)

    def init(self, parameter: Tensor) -> Moments:
        """Zero moments for one slot's parameter (any shape)."""
        return Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, state: Moments, clocks: Sequence[int]) -> None:
        """Update `rows` and `state` in place.

        Args:
            rows: (slot, ...) parameters, one row per slot.
            gradient: same shape.
            state: same shape.
            clocks: t of each slot, counting from 1, for the bias corrections.
        """
        beta1, beta2 = self.betas
        state.m.mul_(beta1).add_(gradient, alpha=1 - beta1)
        state.v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # On the host, in double precision: a power on the device rounds by its place in the batch.
        rates = [self.rate(t) for t in clocks]
        columns = [
            [1 - beta1**t for t in clocks],
            [(1 - beta2**t) ** 0.5 for t in clocks],
            [1 - rate * self.weight_decay for rate in rates],
            rates,
        ]
        uploaded = upload(columns, rows.device, rows.dtype)
        correction1, correction2, kept, rate = uploaded.view(4, -1, *[1] * (rows.dim() - 1))
        denominator = (state.v.sqrt() / correction2).add_(self.eps)
        rows.mul_(kept)
        rows.sub_(rate * state.m / correction1 / denominator)
