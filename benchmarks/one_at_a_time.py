"""K vectors all at once, or one after the other? The same budget in token-steps for both.

    python benchmarks/one_at_a_time.py BOOKS -k 4 -o benchmarks/results/one_at_a_time_k4.json

One after the other: the first vector grows alone; then a fresh one joins it, behind or before those
there are, and all go on together, until K are there. Stage k of K has a share of the budget that is
proportional to k. Texts are of books for choosing; tokens are those that free-running decoding
returns.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import click
import torch
from torch import Tensor

from arena.bouts import Terms
from arena.command import Setting, begins_from_vectors, staged
from arena.stages import Stand, exact_tokens, grow, line_of, show
from memcram.engine.batch import SEED_STRIDE
from memcram.models import FrozenLM
from memcram.recipes.recipe import Recipe

BEHIND, BEFORE = "behind", "before"


def shares(budget: int, vectors: int) -> list[int]:
    """Token-steps of each stage, proportional to its number of vectors."""
    whole = vectors * (vectors + 1) // 2
    ends = [budget * k * (k + 1) // 2 // whole for k in range(vectors + 1)]
    return [b - a for a, b in pairwise(ends)]


def with_one_more(lm: FrozenLM, recipe: Recipe, stand: Stand, where: str) -> Stand:
    """The same vectors and a fresh one from the recipe's start, `behind` or `before` them."""
    mems = []
    for i, mem in enumerate(stand.mems):
        generator = torch.Generator().manual_seed(SEED_STRIDE * i + len(mem))
        fresh = recipe.start.draw((1, lm.input_width), lm.embedding_std, generator).to(mem)
        mems.append(torch.cat([mem, fresh] if where == BEHIND else [fresh, mem]))
    return Stand(mems, stand.held, stand.spent)


def one_after_the_other(
    lm: FrozenLM, recipe: Recipe, texts: Sequence[Tensor], vectors: int, budget: int, where: str
) -> Stand:
    """All stages; the token-steps of all of them."""
    stand = None
    spent = [0] * len(texts)
    for k, share in enumerate(shares(budget, vectors), start=1):
        begin = stand and with_one_more(lm, recipe, stand, where)
        stand = grow(lm, recipe, texts, Terms(k, share, None, 0), begin)
        spent = [a + b for a, b in zip(spent, stand.spent, strict=True)]
        click.echo(f"  {k} of {vectors}: {stand.held} tokens", err=True)
    assert stand is not None
    return Stand(stand.mems, stand.held, spent)


@staged(recipe="direct", vectors=4, samples=8, max_tokens=256, budget=16_000)
def main(setting: Setting) -> dict[str, Any]:
    """Compare on TEXTS (files, or folders of .txt), books for choosing."""
    lm, ids, terms, recipe = setting.lm, setting.ids, setting.terms, setting.entry.recipe
    begins_from_vectors(lm, setting.entry)
    together = grow(lm, recipe, ids, terms)
    before = exact_tokens(lm, together, ids)
    lines = [show(line_of("all at once", before, before, together))]
    for where in (BEHIND, BEFORE):
        stand = one_after_the_other(lm, recipe, ids, terms.vectors, terms.budget, where)
        exact = exact_tokens(lm, stand, ids)
        lines.append(show(line_of(f"one at a time, {where}", exact, before, stand)))
    return {"lines": lines}


if __name__ == "__main__":
    main()
