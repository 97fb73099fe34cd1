"""Which optimiser holds more where a budget ended? Adam, L-BFGS and Gauss-Newton go on from there.

    python benchmarks/last_stretch.py BOOKS -o benchmarks/results/last_stretch.json

Texts of books for choosing are crammed with the first recipe until a budget in token-steps is
spent. From the very same vectors each continuation has another budget: a recipe in the engine, with
a fresh optimiser, or `gauss-newton`, a text at a time. Tokens are those that free-running decoding
returns.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
from arena.bouts import Terms
from arena.gauss_newton import press_on
from arena.stages import Stand, exact_tokens, grow, line_of, show
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import parse_entry
from memcram.errors import MemcramError, UsageError
from memcram.files import write_atomically
from memcram.models import FrozenLM

GAUSS_NEWTON = "gauss-newton"


def press(lm: FrozenLM, texts: Sequence[Tensor], budget: int, begin: Stand) -> Stand:
    """Go on with Gauss-Newton, one text after the other."""
    found = [
        press_on(lm, mem, ids, held, budget)
        for mem, ids, held in zip(begin.mems, texts, begin.held, strict=True)
    ]
    return Stand([p.mem for p in found], [p.held for p in found], [p.token_steps for p in found])


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


if __name__ == "__main__":
    main()
