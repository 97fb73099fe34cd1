"""The command `plan`: estimate the vectors, bytes and time of a text."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from memcram.cli import complete, options
from memcram.cli.command import Command
from memcram.cli.console import (
    echo,
    engine_progress,
    print_fields,
    print_json,
    print_table,
    progress_bar,
    read_input,
)

if TYPE_CHECKING:
    from memcram.compression.estimate import Plan
    from memcram.engine.compute import ComputeDtype
    from memcram.models import FrozenLM

# Shown for each K, each with an interval.
_ROWS = (
    "chunks",
    "vectors",
    "tokens_per_vector",
    "share_of_bound",
    "archive_bytes",
    "token_steps",
    "seconds",
)


@click.command(cls=Command)
@click.argument("text", shell_complete=complete.files)
@options.number(
    "--vectors",
    "-K",
    multiple=True,
    default=(1,),
    show_default=False,
    metavar="K",
    help="Vectors per chunk; repeat to compare: -K 1 -K 4.  [default: 1]",
)
@options.number(
    "--samples", least=2, default=16, help="Chunks to cram for each K, spread over TEXT."
)
@options.stacked(options.model, options.revision, options.config, options.recipe)
@options.stacked(options.steps, options.token_steps, options.seed)
@options.stacked(options.device, options.dtype)
@options.stacked(options.compute_dtype, options.compile_trunk)
@options.stacked(options.json, options.quiet)
@options.with_loader
def plan(
    text: str,
    vectors: tuple[int, ...],
    samples: int,
    load: "Callable[[], FrozenLM]",
    recipe: str,
    steps: int | None,
    token_steps: int | None,
    seed: int,
    compute_dtype: "ComputeDtype",
    compile_trunk: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Estimate the vectors, bytes and time that `compress` needs.

    TEXT is a UTF-8 file, or - for standard input. A few sample chunks are crammed. Each estimate,
    for an exact archive, has a 95 % prediction interval. The time is for this machine under its
    current load.

    \b
    Examples:
      memcram plan book.txt
      memcram plan book.txt --model EleutherAI/pythia-160m -K 1 -K 4 --samples 32 --json
    """
    started = time.perf_counter()
    data = read_input(text, "text")

    from memcram.compression import codec, estimate

    content = codec.decode_text(data, text)
    chosen = codec.get_recipe_with(recipe, steps, token_steps).for_one_text()
    lm = load()
    with progress_bar("growing", unit="chunks", quiet=quiet) as show:
        found = estimate.plan(
            content,
            lm,
            vectors=vectors,
            recipe=chosen,
            samples=samples,
            seed=seed,
            compute_dtype=compute_dtype,
            compile_trunk=compile_trunk,
            on_poll=engine_progress(show, samples * len(vectors)),
        )
    summary = {
        "model": lm.identity.id,
        "recipe": chosen.name,
        "dtype": lm.dtype_name,
        "device": str(lm.device),
        "text_bytes": found.text_bytes,
        "tokens": found.tokens,
        "samples": samples,
        "seed": seed,
        "bound_tokens": found.bound_tokens,
        "planning_seconds": round(time.perf_counter() - started, 2),
    }
    if as_json:
        plans = [asdict(one) for one in found.plans]
        print_json(summary | {"settings": chosen.settings(), "plans": plans})
    else:
        _print_summary(summary, found.plans)


def _print_summary(summary: dict[str, Any], plans: "tuple[Plan, ...]") -> None:
    print_fields(summary)
    echo()
    _print_plans(plans)
    ended = sum(one.budget_ended for one in plans)
    if ended:
        echo(
            f"The budget ended {ended} of {sum(len(one.measured) for one in plans)} sample chunks, "
            "so the vectors may hold more than this. Raise --steps or --token-steps."
        )


def _print_plans(plans: "tuple[Plan, ...]") -> None:
    """Print one column for each K, with the expected values and their intervals."""
    rows = [["chunk_tokens", *(_chunk_tokens(one) for one in plans)]]
    for name in _ROWS:
        intervals = [getattr(one, name) for one in plans]
        rows.append([name, *(_shown(x.expected, x.low, x.high) for x in intervals)])
    ended = (f"{one.budget_ended} of {len(one.measured)}" for one in plans)
    rows.append(["budget_ended", *ended])
    rows.append(["slots", *(f"{one.slots:,}" for one in plans)])
    print_table(["95 % in brackets", *(f"K = {one.vectors_per_chunk}" for one in plans)], rows)


def _chunk_tokens(one: "Plan") -> str:
    of = one.chunk_tokens
    return _shown(of.mean, *(of.ci95 or (of.mean, of.mean)))


def _shown(expected: float, low: float, high: float) -> str:
    values = [
        f"{x:,.0f}" if x >= 1000 or x == int(x) else f"{x:,.3g}" for x in (expected, low, high)
    ]
    return "{} ({} to {})".format(*values)
