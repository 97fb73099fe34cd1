"""K vectors all at once, or one after the other? The same budget in token-steps for both.

    python benchmarks/one_at_a_time.py BOOKS -k 4 -o benchmarks/results/one_at_a_time_k4.json

One after the other: the first vector grows alone; then a fresh one joins it, behind or before those
there are, and all go on together, until K are there. Stage k of K has a share of the budget that is
proportional to k. Texts are of books for choosing; tokens are those that free-running decoding
returns.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
from arena.bouts import Terms
from arena.stages import Stand, exact_tokens, grow, line_of, show
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import parse_entry
from memcram.errors import MemcramError, UsageError
from memcram.files import write_atomically
from memcram.models import FrozenLM
from memcram.recipes import Recipe
from memcram.slots import SEED_STRIDE

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


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("-k", "--vectors", default=4, show_default=True, type=click.IntRange(min=2))
@click.option("-r", "--recipe", "name", default="direct", show_default=True)
@click.option("--samples", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--max-tokens", default=256, show_default=True, type=click.IntRange(min=2))
@click.option("--budget", default=16_000, show_default=True, type=click.IntRange(min=1))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(
    texts: tuple[Path, ...],
    model: str,
    vectors: int,
    name: str,
    samples: int,
    max_tokens: int,
    budget: int,
    output: Path | None,
) -> None:
    """Compare on TEXTS (files, or folders of .txt), books for choosing."""
    try:
        recipe = parse_entry(name).recipe
        books = read_books(texts)
        half = split_books(list(books))[CHOOSING]
        lm = memcram.load_lm(model)
        if recipe.parametrisation.start_width(lm.input_width) != lm.input_width:
            raise UsageError(f"--recipe: {name!r} can't begin from vectors; allowed: as `direct`")
        chosen = {book: books[book] for book in half}
        drawn = draw(lm, chosen, samples=samples, max_tokens=max_tokens, seed=0)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    ids = [sample.ids for sample in drawn]
    together = grow(lm, recipe, ids, Terms(vectors, budget, None, 0))
    before = exact_tokens(lm, together, ids)
    lines: list[dict[str, Any]] = [line_of("all at once", before, before, together)]
    show(lines[-1])
    for where in (BEHIND, BEFORE):
        stand = one_after_the_other(lm, recipe, ids, vectors, budget, where)
        exact = exact_tokens(lm, stand, ids)
        lines.append(line_of(f"one at a time, {where}", exact, before, stand))
        show(lines[-1])
    if output:
        report = {
            "model": lm.identity.id,
            "recipe": recipe.settings(),
            "vectors": vectors,
            "budget": budget,
            "texts": [sample.id for sample in drawn],
            "versions": {key: version(key) for key in ("memcram", "torch", "transformers")},
            "lines": lines,
        }
        write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
