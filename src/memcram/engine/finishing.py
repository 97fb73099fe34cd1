"""Finish vectors in the model's dtype that were optimised in a lower precision.

Rounding of the trunk in bfloat16 hides which tokens are correct in float32. A few small steps in
the model's own dtype, from the vectors found, repair that; only what is measured there counts.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from memcram.engine.batch import CramRequest
from memcram.engine.result import Crammed
from memcram.recipes.component import component
from memcram.recipes.objectives.smooth_margin import SmoothMargin
from memcram.recipes.optimisers.adamw import AdamW
from memcram.recipes.parametrisations import Parameters, Unshared, rms_of
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.horizon import Horizon

# Steps relative to the root mean square of a vector, see docs/decisions/012-low-precision.md.
_RATE = 2e-3
_STEPS = 50
_WHOLE = 2**31 - 1


@component
class Relative(Unshared):
    """mem = s · u: each vector in units of the root mean square s of its initial value.

    Only u is trained, so that the learning rate is relative to the size of the vector: optimised
    vectors differ in size by a factor of 20.
    """

    def start_width(self, input_width: int) -> int:
        """The width itself."""
        return input_width

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`unit` (K, width), and the constant `scale` (K, 1)."""
        scale = rms_of(start)
        return {"unit": start / scale, "scale": scale}

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """As `init` from `mem`."""
        scale = rms_of(mem)
        return {"unit": mem / scale, "scale": scale}

    def mem(self, parameters: Parameters) -> Tensor:
        """s · u of every row, (slot, K, width)."""
        return parameters["scale"].detach() * parameters["unit"]


def finishing_recipe(recipe: Recipe, max_steps: int = _STEPS) -> Recipe:
    """Return the recipe that finishes the vectors of `recipe`, to the same margin.

    A strategy that keeps a prefix gets the held prefix, and keeps as much of it as it can.

    Args:
        recipe: with which the vectors were optimised.
        max_steps: the budget, unless that of `recipe` is smaller.
    """
    steps = min(max_steps, recipe.strategy.steps)
    strategy = recipe.strategy.with_steps(steps)
    if strategy.keeps_prefix:
        margin = strategy.held_margin
        strategy = Horizon(steps, patience=steps + 1, first=_WHOLE, lookahead=0, margin=margin)
    objective = recipe.objective
    return replace(
        recipe,
        name=f"{recipe.name}, finished",
        objective=objective if isinstance(objective, SmoothMargin) else SmoothMargin(),
        optimiser=AdamW(lr=_RATE, betas=(0.9, 0.9)),
        parametrisation=Relative(),
        strategy=strategy,
        horizon=None,
        group_size=None,
    )


def finished(
    run: Callable[[Iterable[CramRequest]], Iterator[Crammed]],
    recipe: Recipe,
    ended: Sequence[tuple[CramRequest, Crammed]],
) -> Iterator[tuple[int, Crammed]]:
    """Finish texts side by side; yield each with its index, in no fixed order.

    Args:
        run: crams requests with `finishing_recipe(recipe)` in the model's dtype.
        recipe: of the low-precision phase.
        ended: texts and their low-precision results.
    """
    keeps_prefix = recipe.strategy.keeps_prefix
    requests = []
    for i, (request, low) in enumerate(ended):
        ids = request.ids
        if keeps_prefix:
            ids = ids[: int(recipe.first_token_given) + low.n_correct]
        if keeps_prefix and not low.n_correct:
            yield i, low
        else:
            k, seed, prefix = request.vectors, request.seed, request.prefix
            requests.append(CramRequest(i, ids, k, seed, start=low.mem, prefix=prefix))
    for high in run(requests):
        assert isinstance(high.key, int)
        yield high.key, _joined(ended[high.key][1], high, keeps_prefix=keeps_prefix)


def _joined(low: Crammed, high: Crammed, *, keeps_prefix: bool) -> Crammed:
    """Join the results of both phases: the cost of both, and the measurements of the second."""
    outcome = high.outcome
    if keeps_prefix and outcome is Outcome.CORRECT:
        outcome = low.outcome  # of the whole text, which the prefix may be
    best_step = low.steps + high.best_step
    before = low.learned_step[: len(high.learned_step)]
    was_correct = (high.learned_step == 0) & (before >= 0)
    later = torch.where(high.learned_step < 0, -1, high.learned_step + low.steps)
    path_steps, path = low.path_steps, low.path
    if path_steps is not None and path is not None:
        path_steps = torch.cat([path_steps, torch.tensor([best_step])])
        path = torch.cat([path, high.mem[None]])
    return replace(
        high,
        key=low.key,
        outcome=outcome,
        learned_step=torch.where(was_correct, before, later),
        best_step=best_step,
        steps=low.steps + high.steps,
        token_steps=low.token_steps + high.token_steps,
        min_loss=low.min_loss,
        curve=low.curve,
        rises=low.rises,
        path_steps=path_steps,
        path=path,
        budget_spent=low.budget_spent,
    )
