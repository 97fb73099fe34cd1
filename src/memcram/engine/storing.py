"""Finish vectors on the values of a storage precision.

Rounding moves every margin. A few steps of the unrounded vectors, whose rounded values go through
the model, find values that hold the text again; only what is measured there counts.
"""

from dataclasses import replace

import torch
from torch import Tensor

from memcram.engine.finishing import finishing_recipe
from memcram.quantisation import rounded
from memcram.recipes.component import component
from memcram.recipes.optimisers.adamw import AdamW
from memcram.recipes.parametrisations import Parameters, Unshared, rms_of
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies.horizon import Horizon

# Learning rate and steps that find all tokens again, and those that find as many as possible; the
# latter back off after some steps without another token. See decision 016.
_RATE, _STEPS = 1e-2, 100
_CUTTING_RATE, _CUTTING_STEPS, _PATIENCE = 2e-2, 200, 50


@component
class OnGrid(Unshared):
    """mem = s · round(ρ u / s): the values of a storage precision, at a fixed scale s per vector.

    The gradient passes through the rounding unchanged (straight-through estimator, Bengio et al.,
    arXiv 1308.3432). ρ is the root mean square of the initial vector, so that the learning rate is
    relative to its size.

    Attributes:
        precision: a key of `memcram.quantisation.PRECISIONS`.
    """

    precision: str

    def start_width(self, input_width: int) -> int:
        """The width, and one more for the scale."""
        return input_width + 1

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`unit` (K, width), and the constants `rms` and `scale` (K, 1).

        The scale is the last coordinate of `start`.
        """
        vectors, scale = start[:, :-1], start[:, -1:]
        rms = rms_of(vectors)
        return {"unit": vectors / rms, "rms": rms, "scale": scale.clone()}

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """As `init` from `mem`, with the scale that `parameters` have."""
        rms = rms_of(mem)
        return {"unit": mem / rms, "rms": rms, "scale": parameters["scale"]}

    def mem(self, parameters: Parameters) -> Tensor:
        """s · round(ρ u / s) of every row, (slot, K, width)."""
        free = parameters["rms"].detach() * parameters["unit"]
        scale = parameters["scale"].detach()
        value = free.detach()
        return scale * rounded(value / scale, self.precision) + (free - value)


def storing_recipe(recipe: Recipe, precision: str, *, may_cut: bool = False) -> Recipe:
    """Return the recipe that finishes the vectors of `recipe` in a storage precision.

    A strategy that keeps a prefix gets the held prefix, and keeps as much of it as it can.

    Args:
        recipe: with which the vectors were optimised.
        precision: a key of `memcram.quantisation.PRECISIONS`.
        may_cut: give up the last tokens of a prefix to hold the others, instead of trying to hold
            all until the end.
    """
    cuts = may_cut and recipe.strategy.keeps_prefix
    steps = _CUTTING_STEPS if cuts else _STEPS
    finishing = finishing_recipe(recipe, steps)
    strategy, optimiser = finishing.strategy, AdamW(lr=_CUTTING_RATE)
    if isinstance(strategy, Horizon) and cuts:
        strategy = replace(strategy, patience=_PATIENCE)
    else:
        optimiser = AdamW(lr=_RATE, decay_steps=steps, final_lr=_RATE / 20)
    return replace(
        finishing,
        name=f"{recipe.name}, {precision}",
        optimiser=optimiser,
        parametrisation=OnGrid(precision),
        strategy=strategy,
    )
