"""models: list the packaged models, inspect any."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from memcram.cli.command import Group
from memcram.cli.console import print_fields, print_json, print_table
from memcram.cli.options import (
    config_option,
    device_option,
    dtype_option,
    json_option,
    revision_option,
    stacked,
)


@click.group(cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List the packaged models; any causal LM on the hub or in a local folder works too.

    \b
    Example:
      memcram models
    """
    if context.invoked_subcommand is not None:
        return
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


@models.command()
@click.argument("model", metavar="MODEL")
@stacked(revision_option, config_option, device_option, dtype_option, json_option)
def inspect(
    model: str,
    revision: str | None,
    config: str | None,
    device: str | None,
    dtype: Any,
    as_json: bool,
) -> None:
    """Print the size, tokenizer, capacity bound and speed of MODEL.

    MODEL is a packaged name, a local folder, a GGUF file or a hub id; it is loaded and checked. The
    speed is measured with a few optimiser steps of one text on this device.

    \b
    Examples:
      memcram models inspect pocket
      memcram models inspect SmolLM2-135M-Instruct.Q4_1.gguf
      memcram models inspect EleutherAI/pythia-160m --dtype bfloat16 --json
    """
    from memcram.engine.speed import measure_speed
    from memcram.models import load_lm
    from memcram.models.facts import model_facts
    from memcram.models.gguf import GGUF, gguf_facts
    from memcram.recipes import get_recipe

    lm = load_lm(model, revision=revision, config=config, device=device, dtype=dtype)
    found = asdict(model_facts(lm)) | asdict(measure_speed(lm, get_recipe("default")))
    if GGUF.matches(Path(model)):
        found["gguf"] = gguf_facts(Path(model), None if config is None else Path(config))
    if as_json:
        print_json(found)
    else:
        print_fields(found)
