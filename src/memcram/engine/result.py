"""What the engine hands back of a text: the best vectors, and how they came about."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.engine.batch import Slot
from memcram.engine.best import BEST, path_to
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome


@dataclass(frozen=True)
class Crammed:
    """The best vectors of one text, and how they came about.

    Attributes:
        key: of the request.
        mem: (K, width) on the CPU, in the model's dtype: the vectors that were measured.
        outcome: how it ended, judged under teacher forcing; decoding has the last word.
        n_correct: tokens held: those that are the argmax, or, for a strategy that keeps a prefix,
            those before the first that is not.
        margins: (counted,) in logits; of the prefix, where one is kept.
        learned_step: (counted,) the step from which each token was right without a break up to
            these vectors; −1 where it was not right. As fine as the measurements seen.
        best_step: optimiser steps before these vectors.
        steps: optimiser steps spent in all.
        token_steps: positions that went forward and backward.
        min_loss: smallest mean loss of the run, at whatever step it was.
        curve: (points, 3) step, tokens held and mean loss, evenly spread over the run.
        rises: (rises, 3) step, token-steps and tokens held, wherever more were held than at any
            measurement before; where the host sees only some of them, token-steps are of that one.
        path_steps: (points,) the steps of `path`; None where it was not asked for.
        path: (points, K, width) as measured, evenly spread over the run; `mem` is the last.
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

    @property
    def n_right(self) -> int:
        """Alias of `n_correct`, its former name."""
        return self.n_correct


def crammed_of(slot: Slot, outcome: Outcome, recipe: Recipe, dtype: torch.dtype) -> Crammed:
    """The result of a slot that is not stacked in a batch, copied to the CPU.

    Args:
        slot: as it stands.
        outcome: how it ended.
        recipe: it was crammed with.
        dtype: of the model, and of the vectors.
    """
    best = {
        name.removeprefix(BEST): value.unsqueeze(0)
        for name, value in slot.tensors.items()
        if name.startswith(BEST)
    }
    mem = recipe.parametrisation.mem(best)[0].to(dtype).detach()
    best_step = int(slot.tensors["best_step"])
    path_steps, path = path_to(slot, mem, best_step)
    held = max(0, int(slot.tensors["max_held"]))
    first, end = slot.accounting.tokens.start, slot.accounting.n_tokens
    end = first + held if recipe.strategy.keeps_prefix else end
    return Crammed(
        key=slot.request.key,
        mem=mem.cpu().clone(),
        outcome=outcome,
        n_correct=held,
        margins=slot.tensors["best_margins"][first:end].cpu().clone(),
        learned_step=slot.tensors["best_right_since"][first:end].cpu().long(),
        best_step=best_step,
        steps=slot.step,
        token_steps=slot.token_steps,
        min_loss=float(slot.tensors["min_loss"]),
        curve=torch.tensor([*slot.curve.kept.values()], dtype=torch.float64).reshape(-1, 3),
        rises=torch.tensor(slot.rises, dtype=torch.long).reshape(-1, 3),
        path_steps=path_steps,
        path=path,
    )
