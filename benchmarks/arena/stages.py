"""Runs that begin where another one ended: the same texts, vectors handed on, a budget each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from torch import Tensor

from arena.bouts import Terms, cram_requests
from arena.budget import Budgeted
from memcram.engine.loop import Engine
from memcram.metrics.statistics import spread
from memcram.models import FrozenLM, decoding
from memcram.recipes.recipe import Recipe


@dataclass(frozen=True)
class Stand:
    """Where each text stands: its vectors (K, width), the tokens they hold, token-steps spent."""

    mems: list[Tensor]
    held: list[int]
    spent: list[int]


def grow(
    lm: FrozenLM, recipe: Recipe, texts: Sequence[Tensor], terms: Terms, begin: Stand | None = None
) -> Stand:
    """Grow with the recipe until the budget is spent, from its own starts or from `begin`."""
    growing = recipe.for_horizon()
    strategy = Budgeted(replace(growing.strategy, steps=terms.budget), terms.budget)
    recipe = replace(growing, strategy=strategy)
    requests = cram_requests(recipe, texts, terms)
    if begin is not None:
        requests = [replace(r, start=mem) for r, mem in zip(requests, begin.mems, strict=True)]
    done = {crammed.key: crammed for crammed in Engine(lm, recipe, poll_every=1).run(requests)}
    crammed = [done[i] for i in range(len(texts))]
    return Stand(
        [one.mem for one in crammed],
        [one.n_right for one in crammed],
        [one.token_steps for one in crammed],
    )


def exact_tokens(lm: FrozenLM, stand: Stand, texts: Sequence[Tensor]) -> list[int]:
    """Tokens that free-running decoding returns before the first miss."""
    back = decoding.greedy(lm, stand.mems, [max(1, held) for held in stand.held])
    right = [one.ids == ids[: len(one.ids)] for one, ids in zip(back, texts, strict=True)]
    return [int(row.long().cumprod(0).sum()) for row in right]


def line_of(name: str, exact: list[int], before: list[int], stand: Stand) -> dict[str, Any]:
    """What one side reached, and how much more that is than before, text by text."""
    tokens = spread(exact)
    more = spread([after - first for after, first in zip(exact, before, strict=True)])
    return {
        "name": name,
        "texts": len(exact),
        "tokens": tokens.mean,
        "tokens_ci95": tokens.ci95,
        "more": more.mean,
        "more_ci95": more.ci95,
        "token_steps": sum(stand.spent) / len(stand.spent),
        "exact": exact,
    }


def show(line: dict[str, Any]) -> dict[str, Any]:
    """Print one side, and hand it on."""
    low, high = line["more_ci95"] or (line["more"], line["more"])
    click.echo(
        f"{line['name']}: {line['tokens']:.1f} tokens, {line['more']:+.1f} "
        f"[{low:+.1f}, {high:+.1f}], {line['token_steps']:,.0f} token-steps, n = {line['texts']}"
    )
    return line
