"""The command `horizon`: how many tokens fit into K vectors."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memcram.cli import complete, options
from memcram.cli.command import Command
from memcram.cli.console import (
    echo,
    engine_progress,
    print_fields,
    print_json,
    progress_bar,
    read_input,
)
from memcram.errors import UsageError

if TYPE_CHECKING:
    from memcram.engine.compute import ComputeDtype
    from memcram.models import FrozenLM
    from memcram.study.horizon import MeasuredHorizon
    from memcram.texts import TextSample


@click.command(cls=Command)
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...", shell_complete=complete.files)
@options.number("--samples", default=16, help="Samples to measure, drawn from each TEXT in turn.")
@options.number(
    "--max-tokens",
    help="Maximum tokens per sample.  [default: as the model's positions and capacity bound allow]",
)
@options.number(
    "--prefix-tokens",
    least=0,
    default=0,
    help="Tokens at the start of each sample that stay visible and are not counted.",
)
@options.stacked(options.model, options.revision, options.config)
@options.stacked(options.vectors, options.recipe, options.steps, options.token_steps)
@options.stacked(options.seed, options.device, options.dtype)
@options.stacked(options.compute_dtype, options.compile_trunk)
@options.stacked(options.json, options.quiet)
@options.with_loader
def horizon(
    texts: tuple[str, ...],
    samples: int,
    max_tokens: int | None,
    prefix_tokens: int,
    load: "Callable[[], FrozenLM]",
    vectors: int,
    recipe: str,
    steps: int | None,
    token_steps: int | None,
    seed: int,
    compute_dtype: "ComputeDtype",
    compile_trunk: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how many tokens of each TEXT fit into K vectors.

    A TEXT is a file, or a folder of .txt files. The horizon is the longest prefix that free-running
    decoding returns within the budget. A sample that ends first is censored: its horizon is a lower
    bound. Samples of a short text overlap, and the interval, which assumes independent samples, is
    then too narrow.

    With --prefix-tokens N the model reads the vectors, then the first N tokens of the sample as
    they are, then the rest; only the rest is crammed and counted.

    \b
    Examples:
      memcram horizon book.txt --samples 32
      memcram horizon books/ --vectors 4 --samples 32 --json
      memcram horizon book.txt --prefix-tokens 16
    """
    started = time.perf_counter()
    from memcram.compression.codec import get_recipe_with
    from memcram.engine.compute import choose_compute_dtype, recorded_settings
    from memcram.study.horizon import measure_horizons

    contents = _read_texts(texts)
    chosen = get_recipe_with(recipe, steps, token_steps).for_one_text()
    lm = load()
    drawn = _draw(contents, lm, samples, max_tokens, vectors, prefix_tokens, seed)
    with progress_bar("growing", unit="texts", quiet=quiet) as show:
        measured = measure_horizons(
            lm,
            drawn,
            chosen,
            vectors=vectors,
            seed=seed,
            compute_dtype=compute_dtype,
            compile_trunk=compile_trunk,
            prefix_tokens=prefix_tokens,
            on_poll=engine_progress(show, samples),
        )
    summary = {
        "model": lm.identity.id,
        "recipe": chosen.name,
        "vectors": vectors,
        **_summary(measured),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if as_json:
        each = [asdict(one) for one in measured]
        computed = choose_compute_dtype(lm, compute_dtype)
        settings = recorded_settings(chosen, lm, computed, compile_trunk)
        if prefix_tokens:
            settings["prefix_tokens"] = prefix_tokens
        print_json(summary | {"settings": settings, "samples": each})
    else:
        _print_summary(summary)


def _draw(
    contents: dict[str, str],
    lm: "FrozenLM",
    samples: int,
    max_tokens: int | None,
    vectors: int,
    prefix_tokens: int,
    seed: int,
) -> "list[TextSample]":
    """Draw samples from the texts, each with its visible tokens.

    Raises:
        UsageError: `max_tokens` is more than the model has room for.
    """
    from memcram.study.horizon import longest_sample
    from memcram.texts.files import sample_files

    longest = longest_sample(lm, vectors, prefix_tokens)
    if max_tokens is not None and max_tokens > longest:
        raise UsageError(argument="max_tokens", got=max_tokens, allowed=f"1 to {longest}")
    length = prefix_tokens + (max_tokens or longest)
    return sample_files(contents, lm.tokenize, samples=samples, max_tokens=length, seed=seed)


def _read_texts(texts: tuple[str, ...]) -> dict[str, str]:
    """Content of each file, by name."""
    from memcram.compression.codec import decode_text
    from memcram.texts.passages import files_in

    files = files_in(tuple(map(Path, texts)), (".txt",), "texts")
    return {
        path.name: decode_text(read_input(str(path), "texts"), str(path), "texts") for path in files
    }


def _summary(measured: "list[MeasuredHorizon]") -> dict[str, Any]:
    from memcram.metrics.statistics import spread

    of = spread([one.horizon for one in measured])
    return {
        "n": of.n,
        "mean_tokens": of.mean,
        "std_tokens": of.std,
        "ci95_tokens": of.ci95,
        "censored": sum(one.censored for one in measured),
        "token_steps": sum(one.token_steps for one in measured),
        "budget_ended": sum(one.budget_ended for one in measured),
        "mean_bits_per_dimension": spread([one.bits_per_dimension for one in measured]).mean,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    low, high = summary["ci95_tokens"] or (summary["mean_tokens"],) * 2
    print_fields(summary | {"ci95_tokens": f"{low:.2f} to {high:.2f}"})
    if summary["budget_ended"]:
        echo(
            f"The budget ended {summary['budget_ended']} of {summary['n']} texts, so the vectors "
            "may hold more than this mean. Raise --steps or --token-steps."
        )
