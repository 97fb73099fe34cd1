"""Which optimiser holds more where a budget ended? Adam, L-BFGS and Gauss-Newton go on from there.

    python benchmarks/last_stretch.py BOOKS -o benchmarks/results/last_stretch.json

Texts of books for choosing are crammed with the first recipe until a budget in token-steps is
spent. From the very same vectors each continuation has another budget: a recipe in the engine, with
a fresh optimiser, or `gauss-newton`, a text at a time. Tokens are those that free-running decoding
returns.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
from arena.bouts import Terms, cram_requests
from arena.budget import Budgeted
from arena.gauss_newton import press_on
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import parse_entry
from memcram import decode
from memcram.engine import Engine
from memcram.errors import MemcramError, UsageError
from memcram.files import write_atomically
from memcram.metrics.statistics import spread
from memcram.models import FrozenLM
from memcram.recipes import Recipe

GAUSS_NEWTON = "gauss-newton"


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


def press(lm: FrozenLM, texts: Sequence[Tensor], budget: int, begin: Stand) -> Stand:
    """Go on with Gauss-Newton, one text after the other."""
    found = [
        press_on(lm, mem, ids, held, budget)
        for mem, ids, held in zip(begin.mems, texts, begin.held, strict=True)
    ]
    return Stand([p.mem for p in found], [p.held for p in found], [p.token_steps for p in found])


def exact_tokens(lm: FrozenLM, stand: Stand, texts: Sequence[Tensor]) -> list[int]:
    """Tokens that free-running decoding returns before the first miss."""
    back = decode.greedy(lm, stand.mems, [max(1, held) for held in stand.held])
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


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("-k", "--vectors", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--samples", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--max-tokens", default=96, show_default=True, type=click.IntRange(min=2))
@click.option("-r", "--recipe", "first", default="direct", show_default=True)
@click.option("--budget", default=6000, show_default=True, type=click.IntRange(min=1))
@click.option("--more", default=6000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--on",
    "names",
    multiple=True,
    default=["direct", "direct@optimiser=LimitedLBFGS,lr=1.0", GAUSS_NEWTON],
    show_default=True,
    help="A recipe that begins from vectors, or `gauss-newton`.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(texts: tuple[Path, ...], output: Path | None, **given: Any) -> None:
    """Go on from where a budget ended on TEXTS (files, or folders of .txt), books for choosing."""
    try:
        report = measure(texts, **given)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    if output:
        write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())


def measure(
    texts: tuple[Path, ...],
    *,
    model: str,
    vectors: int,
    samples: int,
    max_tokens: int,
    first: str,
    budget: int,
    more: int,
    names: tuple[str, ...],
) -> dict[str, Any]:
    """All sides, printed as they come."""
    recipe = parse_entry(first).recipe
    others = {name: parse_entry(name).recipe for name in names if name != GAUSS_NEWTON}
    books = read_books(texts)
    half = split_books(list(books))[CHOOSING]
    lm = memcram.load_lm(model)
    for name, other in others.items():
        if other.parametrisation.start_width(lm.input_width) != lm.input_width:
            raise UsageError(f"--on: {name!r} can't begin from vectors; allowed: as `direct`")
    drawn = draw(lm, {n: books[n] for n in half}, samples=samples, max_tokens=max_tokens, seed=0)
    ids = [sample.ids for sample in drawn]
    begin = grow(lm, recipe, ids, Terms(vectors, budget, None, 0))
    before = exact_tokens(lm, begin, ids)
    lines = [line_of(first, before, before, begin)]
    show(lines[-1])
    for name in names:
        if name == GAUSS_NEWTON:
            after = press(lm, ids, more, begin)
        else:
            after = grow(lm, others[name], ids, Terms(vectors, more, None, 0), begin)
        lines.append(line_of(f"then {name}", exact_tokens(lm, after, ids), before, after))
        show(lines[-1])
    return {
        "model": lm.identity.id,
        "dtype": lm.dtype_name,
        "threads": torch.get_num_threads(),
        "vectors": vectors,
        "budget": budget,
        "more": more,
        "texts": [sample.id for sample in drawn],
        "settings": [recipe.settings(), *(other.settings() for other in others.values())],
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "lines": lines,
    }


def show(line: dict[str, Any]) -> None:
    """One side."""
    low, high = line["more_ci95"] or (line["more"], line["more"])
    click.echo(
        f"{line['name']}: {line['tokens']:.1f} tokens, {line['more']:+.1f} "
        f"[{low:+.1f}, {high:+.1f}], {line['token_steps']:,.0f} token-steps, n = {line['texts']}"
    )


if __name__ == "__main__":
    main()
