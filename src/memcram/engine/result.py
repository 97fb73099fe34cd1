"""Result of cramming one text."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.engine.batch import Slot
from memcram.engine.best import path_to
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome


@dataclass(frozen=True)
class Crammed:
    """The best vectors of one text, and how the optimisation went.

    Attributes:
        key: of the request.
        mem: (K, width) on the CPU, in the model's dtype: the vectors exactly as measured.
        outcome: how it ended, under teacher forcing; only decoding shows exactness.
        n_correct: correct tokens; for a strategy that keeps a prefix, those before the first
            wrong one.
        margins: (counted,) in logits; only of the prefix, where one is kept.
        learned_step: (counted,) the step since which each token was correct without interruption
            up to these vectors; −1 where it is not correct. Has the resolution of the measurements.
        best_step: optimiser steps before these vectors.
        steps: optimiser steps in total.
        token_steps: positions that went forward and backward.
        min_loss: smallest mean loss over the whole run.
        curve: (points, 3) step, tokens held and mean loss, evenly spread over the run.
        rises: (rises, 3) step, token-steps and tokens held, whenever more were held than at any
            measurement before; where the host sees only some measurements, the token-steps are
            those of the next one it sees.
        path_steps: (points,) the steps of `path`; None unless requested.
        path: (points, K, width) as measured, evenly spread over the run; `mem` is the last.
        budget_spent: whether the budget was used up; steps in which vectors were finished in the
            model's own dtype do not count.
    """

    key: Hashable
    mem: Tensor
    outcome: Outcome
    n_correct: int
    margins: Tensor
    learned_step: Tensor
    best_step: int
    steps: int
    token_steps: int
    min_loss: float
    curve: Tensor
    rises: Tensor
    path_steps: Tensor | None = None
    path: Tensor | None = None
    budget_spent: bool = False

    @property
    def n_right(self) -> int:
        """Alias of `n_correct`, its former name."""
        return self.n_correct


def crammed_of(slot: Slot, outcome: Outcome, recipe: Recipe, dtype: torch.dtype) -> Crammed:
    """Return the result of a slot that is not stacked in a batch, copied to the CPU.

    Args:
        slot: in its final state.
        outcome: how it ended.
        recipe: with which it was crammed.
        dtype: of the model, and of the vectors.
    """
    state, best = slot.state, slot.state.best
    parameters = {name: value.unsqueeze(0) for name, value in best.parameters.items()}
    mem = recipe.parametrisation.mem(parameters)[0].to(dtype).detach()
    best_step = int(best.step)
    path_steps, path = path_to(slot, mem, best_step)
    held = max(0, int(state.max_held))
    first, end = slot.accounting.tokens.start, slot.accounting.n_tokens
    end = first + held if recipe.strategy.keeps_prefix else end
    return Crammed(
        key=slot.request.key,
        mem=mem.cpu().clone(),
        outcome=outcome,
        n_correct=held,
        margins=best.margins[first:end].cpu().clone(),
        learned_step=best.correct_since[first:end].cpu().long(),
        best_step=best_step,
        steps=slot.step,
        token_steps=slot.token_steps,
        min_loss=float(state.min_loss),
        curve=torch.tensor([*slot.curve.kept.values()], dtype=torch.float64).reshape(-1, 3),
        rises=torch.tensor(slot.rises, dtype=torch.long).reshape(-1, 3),
        path_steps=path_steps,
        path=path,
        budget_spent=recipe.strategy.is_spent(slot.step, slot.token_steps),
    )
