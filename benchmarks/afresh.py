"""Where growth gave up: does another start hold more, growing again or asked for all at once?

    python benchmarks/afresh.py BOOKS -o benchmarks/results/afresh.json

Texts of books for choosing grow until their budget is spent or they give up. Each that gave up
begins anew from another start with the rest of its budget, in several ways: growing from the
recipe's own first tokens, or with all tokens that were held and some more asked for at once. The
better of the two runs counts, so that no way holds less than the first run.
"""

from dataclasses import replace
from typing import Any

import click

from arena.bouts import START_STRIDE, Terms
from arena.command import Setting, staged
from arena.stages import Stand, exact_tokens, grow, line_of, show
from memcram.models import FrozenLM
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Horizon
from memcram.texts import TextSample

# A rest of the budget below this share is not worth another start.
_LEAST_SHARE = 0.05


def another_start(
    lm: FrozenLM,
    recipe: Recipe,
    samples: list[TextSample],
    stand: Stand,
    terms: Terms,
    more: int | None,
) -> Stand:
    """The better of what stands and another start of each text that has budget left.

    Args:
        lm: the frozen model.
        recipe: it grows with the strategy `Horizon`.
        samples: the texts.
        stand: after the first run.
        terms: of the first run.
        more: tokens beyond those held that are asked for from the first step; None: grow as ever.
    """
    mems, held, spent = list(stand.mems), list(stand.held), list(stand.spent)
    horizon = recipe.for_horizon().strategy
    assert isinstance(horizon, Horizon)
    for i, sample in enumerate(samples):
        left = terms.budget - stand.spent[i]
        if left < _LEAST_SHARE * terms.budget or stand.held[i] == len(sample.ids):
            continue
        first = horizon.first if more is None else stand.held[i] + more
        asked = replace(recipe, horizon=replace(horizon, first=first))
        # Alone, and so at another place: the seed makes up for the place in the list.
        own = replace(terms, budget=left, seed=terms.seed + START_STRIDE * (i + 1))
        again = grow(lm, asked, [sample.ids], own)
        spent[i] += again.spent[0]
        if again.held[0] > held[i]:
            mems[i], held[i] = again.mems[0], again.held[0]
    return Stand(mems, held, spent)


@staged(recipe="default", vectors=1, samples=24, max_tokens=96, budget=12_000)
@click.option(
    "--more",
    "beyond",
    multiple=True,
    type=click.IntRange(min=1),
    default=[1, 2, 4],
    show_default=True,
    help="Tokens beyond those held, asked for at once.",
)
def main(setting: Setting, *, beyond: tuple[int, ...]) -> dict[str, Any]:
    """Compare on TEXTS (files, or folders of .txt), books for choosing."""
    lm, ids, terms, recipe = setting.lm, setting.ids, setting.terms, setting.entry.recipe
    stand = grow(lm, recipe, ids, terms)
    before = exact_tokens(lm, stand, ids)
    lines = [show(line_of("one start", before, before, stand))]
    for more in (None, *beyond):
        after = another_start(lm, recipe, setting.samples, stand, terms, more)
        how = "another start, growing" if more is None else f"another start, {more} more at once"
        lines.append(show(line_of(how, exact_tokens(lm, after, ids), before, after)))
    return {"lines": lines}


if __name__ == "__main__":
    main()
