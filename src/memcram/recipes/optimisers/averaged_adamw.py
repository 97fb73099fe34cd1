"""AdamW on a sequence of fast iterates, with the gradient taken near their moving average."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.recipes.component import component
from memcram.recipes.optimisers.adamw import AdamW, Moments
from memcram.recipes.ranges import BelowOne, Positive


@dataclass
class Averages(Moments):
    """Moments, the fast iterate `z` and its moving average `x`, shaped like the parameter."""

    z: Tensor
    x: Tensor


@component
class AveragedAdamW(AdamW):
    """AdamW with generalised primal averaging.

    z ← AdamW(z, g(y)),  x ← μₓ x + (1 − μₓ) z,  y ← μᵧ x + (1 − μᵧ) z

    The parameter that is measured, and at which the gradient is taken, is y. Steps of AdamW do not
    shrink as the loss does, so its iterates keep jumping over a narrow minimum; their average does
    not, and allows a larger learning rate. β₁ is 0 by default, because the average replaces it:
    with both, half as many tokens were held (docs/decisions/004-default-recipe.md).

    Source: Defazio et al., arXiv 2512.17131 (2025), and for μₓ = 1 − 1/t, arXiv 2405.15682.

    Attributes:
        averaging: μₓ.
        interpolation: μᵧ.
    """

    lr: Positive = 0.6
    betas: tuple[BelowOne, BelowOne] = (0.0, 0.8)
    averaging: BelowOne = 0.9
    interpolation: BelowOne = 0.9

    def init(self, parameter: Tensor) -> Averages:
        """Zero moments for one slot's parameter (any shape), which all three iterates equal."""
        zero = torch.zeros_like(parameter)
        return Averages(zero, zero.clone(), parameter.clone(), parameter.clone())

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, state: Moments, clocks: Sequence[int]) -> None:
        """Update `rows`, which are y, and `state` in place; see `AdamW.step`."""
        assert isinstance(state, Averages)
        super().step(state.z, gradient, state, clocks)
        state.x.lerp_(state.z, 1 - self.averaging)
        rows.copy_(state.z.lerp(state.x, self.interpolation))
