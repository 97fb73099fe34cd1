"""The command `bound`: capacity bounds of models."""

import math
from typing import Any

import click

from memcram.cli import complete, options
from memcram.cli.command import Command
from memcram.cli.console import print_json, print_table


@click.command(cls=Command)
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete.models)
@click.option(
    "--bits",
    type=click.FloatRange(min=0, min_open=True),
    default=16,
    show_default=True,
    metavar="B",
    help="Bits per coordinate.",
)
@options.revision
@options.json
def bound(models: tuple[str, ...], bits: float, revision: str | None, as_json: bool) -> None:
    """Compute the capacity bound of one input vector of each MODEL.

    The bound is width · bits / log₂|V| tokens. A MODEL is a hub id, a local folder or a packaged
    name. The default is the models of Kuratov et al. (2025), whose widths and vocabularies are in
    the package, so that nothing is downloaded.

    \b
    Examples:
      memcram bound
      memcram bound EleutherAI/pythia-160m meta-llama/Llama-3.1-8B --bits 8
      memcram bound pocket --json
    """
    if not math.isfinite(bits):
        raise click.BadParameter(f"got {bits}, allowed: a number above 0", param_hint="--bits")

    from memcram.metrics.bound import capacity_bound
    from memcram.metrics.published import published_shapes

    known = published_shapes()
    rows: list[dict[str, Any]] = []
    for name in models or tuple(known):
        if name in known and revision is None:
            width, vocabulary = known[name]
        else:
            from memcram.models import model_shape

            width, vocabulary = model_shape(name, revision)
        tokens = capacity_bound(width, vocabulary, bits)
        rows.append(
            {
                "model": name,
                "input_width": width,
                "vocab_size": vocabulary,
                "bits": bits,
                "bound_tokens": tokens,
            }
        )
    if as_json:
        print_json({"bounds": rows})
    else:
        shown = [
            [r["model"], r["input_width"], r["vocab_size"], round(r["bound_tokens"])] for r in rows
        ]
        print_table(["model", "input_width", "vocab_size", f"bound_tokens ({bits:g} bits)"], shown)
