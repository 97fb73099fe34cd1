"""Where growth gave up: does another start hold more, growing again or asked for all at once?

    python benchmarks/afresh.py BOOKS -o benchmarks/results/afresh.json

Texts of books for choosing grow until their budget is spent or they give up. Each that gave up
begins anew from another start with the rest of its budget, in several ways: growing from the
recipe's own first tokens, or with all tokens that were held and some more asked for at once. The
better of the two runs counts, so that no way holds less than the first run.
"""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

import memcram
from arena.bouts import START_STRIDE, Terms
from arena.stages import Stand, exact_tokens, grow, line_of, show
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import parse_entry
from memcram.errors import MemcramError
from memcram.files import write_atomically
from memcram.models import FrozenLM
from memcram.recipes import Recipe
from memcram.strategies import Horizon
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


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("-k", "--vectors", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("-r", "--recipe", "name", default="default", show_default=True)
@click.option("--samples", default=24, show_default=True, type=click.IntRange(min=1))
@click.option("--max-tokens", default=96, show_default=True, type=click.IntRange(min=2))
@click.option("--budget", default=12_000, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--more",
    "beyond",
    multiple=True,
    type=click.IntRange(min=1),
    default=[1, 2, 4, 8],
    show_default=True,
    help="Tokens beyond those held, asked for at once.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(
    texts: tuple[Path, ...],
    model: str,
    vectors: int,
    name: str,
    samples: int,
    max_tokens: int,
    budget: int,
    beyond: tuple[int, ...],
    output: Path | None,
) -> None:
    """Compare on TEXTS (files, or folders of .txt), books for choosing."""
    try:
        recipe = parse_entry(name).recipe
        books = read_books(texts)
        half = split_books(list(books))[CHOOSING]
        lm = memcram.load_lm(model)
        chosen = {book: books[book] for book in half}
        drawn = draw(lm, chosen, samples=samples, max_tokens=max_tokens, seed=0)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    terms = Terms(vectors, budget, None, 0)
    ids = [sample.ids for sample in drawn]
    stand = grow(lm, recipe, ids, terms)
    before = exact_tokens(lm, stand, ids)
    lines: list[dict[str, Any]] = [line_of("one start", before, before, stand)]
    show(lines[-1])
    for more in (None, *beyond):
        after = another_start(lm, recipe, drawn, stand, terms, more)
        how = "growing" if more is None else f"{more} more at once"
        lines.append(line_of(f"another start, {how}", exact_tokens(lm, after, ids), before, after))
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
