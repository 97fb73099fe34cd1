"""Which optimiser holds more where a budget ended? Adam, L-BFGS and Gauss-Newton go on from there.

    python benchmarks/last_stretch.py BOOKS -o benchmarks/results/last_stretch.json

Texts of books for choosing are crammed with the first recipe until a budget in token-steps is
spent. From the very same vectors each continuation has another budget: a recipe in the engine, with
a fresh optimiser, or `gauss-newton`, a text at a time. Tokens are those that free-running decoding
returns.
"""

from collections.abc import Sequence
from typing import Any

import click
from torch import Tensor

from arena.bouts import Terms
from arena.command import Setting, begins_from_vectors, staged
from arena.gauss_newton import press_on
from arena.stages import Stand, exact_tokens, grow, line_of, show
from arena.variants import parse_entry
from memcram.models import FrozenLM

GAUSS_NEWTON = "gauss-newton"


def press(lm: FrozenLM, texts: Sequence[Tensor], budget: int, begin: Stand) -> Stand:
    """Go on with Gauss-Newton, one text after the other."""
    found = [
        press_on(lm, mem, ids, held, budget)
        for mem, ids, held in zip(begin.mems, texts, begin.held, strict=True)
    ]
    return Stand([p.mem for p in found], [p.held for p in found], [p.token_steps for p in found])


@staged(recipe="direct", vectors=1, samples=12, max_tokens=96, budget=6000)
@click.option("--more", default=6000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--on",
    "names",
    multiple=True,
    default=["direct", "direct@optimiser=LimitedLBFGS,lr=1.0", GAUSS_NEWTON],
    show_default=True,
    help="A recipe that begins from vectors, or `gauss-newton`.",
)
def main(setting: Setting, *, more: int, names: tuple[str, ...]) -> dict[str, Any]:
    """Go on from where a budget ended on TEXTS (files, or folders of .txt), books for choosing."""
    others = {name: parse_entry(name) for name in names if name != GAUSS_NEWTON}
    for other in others.values():
        begins_from_vectors(setting.lm, other, "--on")
    lm, ids = setting.lm, setting.ids
    begin = grow(lm, setting.entry.recipe, ids, setting.terms)
    before = exact_tokens(lm, begin, ids)
    lines = [show(line_of(setting.entry.name, before, before, begin))]
    for name in names:
        if name == GAUSS_NEWTON:
            after = press(lm, ids, more, begin)
        else:
            terms = Terms(setting.terms.vectors, more, None, 0)
            after = grow(lm, others[name].recipe, ids, terms, begin)
        lines.append(show(line_of(f"then {name}", exact_tokens(lm, after, ids), before, after)))
    settings = [other.recipe.settings() for other in others.values()]
    return {"more": more, "settings": settings, "lines": lines}


if __name__ == "__main__":
    main()
