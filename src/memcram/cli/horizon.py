"""horizon."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memcram.cli.command import Command
from memcram.cli.console import print_fields, print_json, progress_bar
from memcram.cli.options import (
    compute_dtype_option,
    device_option,
    dtype_option,
    json_option,
    model_options,
    quiet_option,
    read_input,
    recipe_option,
    seed_option,
    stacked,
    steps_option,
    token_steps_option,
    vectors_option,
)
from memcram.errors import UsageError

if TYPE_CHECKING:
    from memcram.engine.compute import ComputeDtype
    from memcram.models.modes import DtypeName


@click.command(cls=Command)
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="N",
    help="Samples to measure, drawn from each TEXT in turn.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of the longest sample.  [default: the model's positions, or the capacity bound]",
)
@model_options
@stacked(vectors_option, recipe_option, steps_option)
@stacked(token_steps_option, seed_option, device_option, dtype_option, compute_dtype_option)
@stacked(json_option, quiet_option)
def horizon(
    texts: tuple[str, ...],
    samples: int,
    max_tokens: int | None,
    model: str,
    revision: str | None,
    config: str | None,
    vectors: int,
    recipe: str,
    steps: int | None,
    token_steps: int | None,
    seed: int,
    device: str | None,
    dtype: "DtypeName",
    compute_dtype: "ComputeDtype",
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure how many tokens of each TEXT (files, or folders of .txt) fit into K vectors.

    The horizon is the longest prefix that free-running decoding returns within the budget. If the
    sample ends first, it is censored: its horizon is a lower bound. Samples of a short text
    overlap, and the interval, which assumes independent samples, is then too narrow.

    \b
    Examples:
      memcram horizon book.txt --samples 32
      memcram horizon books/ --vectors 4 --samples 32 --json
    """
    started = time.perf_counter()
    from memcram.compression.codec import decode_text, get_recipe_with
    from memcram.engine.compute import choose_compute_dtype, recorded_settings
    from memcram.metrics.statistics import spread
    from memcram.models import load_lm
    from memcram.recipes.catalogue import get_recipe
    from memcram.study.horizon import longest_sample, measure_horizons
    from memcram.texts.files import sample_files
    from memcram.texts.passages import files_in

    files = files_in(tuple(Path(text) for text in texts), (".txt",), "texts")
    contents = {
        path.name: decode_text(read_input(str(path), "texts"), str(path), "texts") for path in files
    }
    chosen = get_recipe(recipe)
    if token_steps is not None:
        chosen = chosen.with_token_steps(token_steps)
    chosen = get_recipe_with(chosen, steps).for_one_text()
    lm = load_lm(model, revision=revision, config=config, device=device, dtype=dtype)
    longest = longest_sample(lm, vectors)
    if max_tokens is not None and max_tokens > longest:
        raise UsageError(argument="max_tokens", got=max_tokens, allowed=f"1 to {longest}")
    drawn = sample_files(
        contents, lm.tokenize, samples=samples, max_tokens=max_tokens or longest, seed=seed
    )
    with progress_bar("growing", unit="texts", quiet=quiet) as show:
        measured = measure_horizons(
            lm,
            drawn,
            chosen,
            vectors=vectors,
            seed=seed,
            compute_dtype=compute_dtype,
            on_poll=lambda status: show(status.done, samples),
        )
    of = spread([one.horizon for one in measured])
    bits = spread([one.bits_per_dimension for one in measured])
    summary = {
        "model": lm.identity.id,
        "recipe": chosen.name,
        "vectors": vectors,
        "n": of.n,
        "mean_tokens": of.mean,
        "std_tokens": of.std,
        "ci95_tokens": of.ci95,
        "censored": sum(one.censored for one in measured),
        "token_steps": sum(one.token_steps for one in measured),
        "budget_ended": sum(one.budget_ended for one in measured),
        "mean_bits_per_dimension": bits.mean,
        "seconds": round(time.perf_counter() - started, 2),
    }
    if as_json:
        each = [asdict(one) for one in measured]
        settings = recorded_settings(chosen, lm, choose_compute_dtype(lm, compute_dtype))
        print_json(summary | {"settings": settings, "samples": each})
    else:
        low, high = of.ci95 or (of.mean, of.mean)
        print_fields(summary | {"ci95_tokens": f"{low:.2f} to {high:.2f}"})
        if summary["budget_ended"]:
            click.echo(
                f"The budget ended {summary['budget_ended']} of {of.n} texts: the mean is what "
                "this budget buys, not what the vectors could hold. "
                "Raise --steps or --token-steps."
            )
