"""models."""

from typing import Any

import click

from memcram.cli.command import Command
from memcram.cli.console import print_json, print_table
from memcram.cli.options import json_option


@click.command(cls=Command)
@json_option
def models(as_json: bool) -> None:
    """List the packaged models; any causal LM on the hub or in a local folder works too.

    \b
    Example:
      memcram models
    """
    from memcram.models import load_lm, packaged_models

    rows: list[dict[str, Any]] = []
    for name in packaged_models():
        lm = load_lm(name, device="cpu")
        rows.append(
            {
                "model": name,
                "parameters": lm.parameters,
                "input_width": lm.input_width,
                "layers": lm.layers,
                "vocab_size": lm.vocab_size,
                "max_positions": lm.max_positions,
                "fingerprint": lm.identity.fingerprint,
            }
        )
    if as_json:
        print_json({"models": rows})
    else:
        shown = [[*list(row.values())[:-1], f"{row['fingerprint'][:12]}…"] for row in rows]
        print_table(list(rows[0]), shown)
