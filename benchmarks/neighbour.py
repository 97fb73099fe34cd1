"""Does it help to begin at the vectors of the chunk before?

    python benchmarks/neighbour.py BOOKS -o benchmarks/results/neighbour.json

A stretch of a book is halved. The first half grows from the recipe's own start; the second grows
from its own start, and once more from the vectors that hold the first, with a fresh optimiser and
the same budget. What the first half cost is not counted: a compression has these vectors anyway.
"""

import json
from importlib.metadata import version
from pathlib import Path

import click

import memcram
from arena.bouts import Terms
from arena.stages import exact_tokens, grow, line_of, show
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import parse_entry
from memcram.errors import MemcramError, UsageError
from memcram.files import write_atomically


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("-k", "--vectors", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("-r", "--recipe", "name", default="direct", show_default=True)
@click.option("--samples", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--max-tokens", default=64, show_default=True, type=click.IntRange(min=2))
@click.option("--budget", default=6000, show_default=True, type=click.IntRange(min=1))
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
        drawn = draw(lm, chosen, samples=samples, max_tokens=2 * max_tokens, seed=0)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    terms = Terms(vectors, budget, None, 0)
    before = grow(lm, recipe, [sample.ids[:max_tokens] for sample in drawn], terms)
    ids = [sample.ids[max_tokens:] for sample in drawn]
    fresh = grow(lm, recipe, ids, terms)
    moved = grow(lm, recipe, ids, terms, before)
    own = exact_tokens(lm, fresh, ids)
    lines = [
        line_of("from the recipe's start", own, own, fresh),
        line_of("from the neighbour", exact_tokens(lm, moved, ids), own, moved),
    ]
    for line in lines:
        show(line)
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
