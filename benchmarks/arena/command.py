"""What the scripts that run stages have in common: options, books for choosing, the report."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
from arena.bouts import Terms
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import Entry, parse_entry
from memcram.errors import MemcramError, UsageError
from memcram.files import write_atomically
from memcram.models import FrozenLM
from memcram.texts import TextSample


@dataclass(frozen=True)
class Setting:
    """One run of a script.

    Attributes:
        lm: the frozen model.
        entry: the recipe.
        samples: texts of books for choosing.
        terms: K, and the budget of a text in token-steps.
    """

    lm: FrozenLM
    entry: Entry
    samples: list[TextSample]
    terms: Terms

    @property
    def ids(self) -> list[Tensor]:
        """Token ids of each text, (n,)."""
        return [sample.ids for sample in self.samples]


Work = Callable[..., dict[str, Any]]


def staged(
    *, recipe: str, vectors: int, samples: int, max_tokens: int, budget: int
) -> Callable[[Work], click.Command]:
    """Make a command of a function that takes a `Setting`, and what it adds to the report.

    Options of its own stand below this decorator. Errors are one line, and a report is written
    whole or not at all.

    Args:
        recipe, vectors, samples, max_tokens, budget: defaults of the options of these names.
    """
    positive = click.IntRange(min=1)

    def command(work: Work) -> click.Command:
        @click.command(help=work.__doc__)
        @click.argument(
            "texts", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True)
        )
        @click.option("--model", default="pocket", show_default=True)
        @click.option("-r", "--recipe", "name", default=recipe, show_default=True)
        @click.option("-k", "--vectors", default=vectors, show_default=True, type=positive)
        @click.option("--samples", default=samples, show_default=True, type=positive)
        @click.option(
            "--max-tokens", default=max_tokens, show_default=True, type=click.IntRange(min=2)
        )
        @click.option(
            "--budget", default=budget, show_default=True, type=positive, help="Token-steps a text."
        )
        @click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
        def main(texts: tuple[Path, ...], output: Path | None, **given: Any) -> None:
            shared = {key: given.pop(key) for key in ("model", "name", "vectors", "samples")}
            shared |= {key: given.pop(key) for key in ("max_tokens", "budget")}
            try:
                setting = _open(texts, **shared)
                report = _conditions(setting) | work(setting, **given)
            except MemcramError as error:
                click.echo(f"Error: {error}", err=True)
                raise SystemExit(error.exit_code) from error
            if output:
                write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())

        main.params += reversed(getattr(work, "__click_params__", []))
        return main

    return command


def begins_from_vectors(lm: FrozenLM, entry: Entry, argument: str = "--recipe") -> None:
    """Refuse a recipe that can't go on from vectors.

    Raises:
        UsageError: its parametrisation begins from fewer coordinates.
    """
    if entry.recipe.parametrisation.start_width(lm.input_width) != lm.input_width:
        raise UsageError(f"{argument}: {entry.name!r} can't begin from vectors; allowed: `direct`")


def _open(
    texts: tuple[Path, ...],
    *,
    model: str,
    name: str,
    vectors: int,
    samples: int,
    max_tokens: int,
    budget: int,
) -> Setting:
    entry = parse_entry(name)
    books = read_books(texts)
    chosen = {book: books[book] for book in split_books(list(books))[CHOOSING]}
    lm = memcram.load_lm(model)
    drawn = draw(lm, chosen, samples=samples, max_tokens=max_tokens, seed=0)
    return Setting(lm, entry, drawn, Terms(vectors, budget, None, 0))


def _conditions(setting: Setting) -> dict[str, Any]:
    return {
        "model": setting.lm.identity.id,
        "dtype": setting.lm.dtype_name,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "recipe": setting.entry.recipe.settings(),
        "vectors": setting.terms.vectors,
        "budget": setting.terms.budget,
        "texts": [sample.id for sample in setting.samples],
    }
