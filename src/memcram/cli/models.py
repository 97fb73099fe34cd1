"""The commands `models` and `models inspect`: list the packaged models, describe any model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from memcram.cli import complete, options
from memcram.cli.command import Group
from memcram.cli.console import echo, print_fields, print_json, print_report, print_table


@click.group(cls=Group, invoke_without_command=True)
@options.json
@click.pass_context
def models(context: click.Context, as_json: bool) -> None:
    """List the packaged models.

    Causal LMs from the hub, a local folder or a GGUF file work too.

    \b
    Example:
      memcram models
    """
    if context.invoked_subcommand is not None:
        return
    from memcram.models import load_lm, packaged_models
    from memcram.models.facts import model_facts

    found = [model_facts(load_lm(name, device="cpu")) for name in packaged_models()]
    names = ("model", "parameters", "input_width", "layers", "vocab_size", "max_positions")
    rows = [{name: facts[name] for name in (*names, "fingerprint")} for facts in found]
    if as_json:
        print_json({"models": rows})
    else:
        shown = [[*list(row.values())[:-1], f"{row['fingerprint'][:12]}…"] for row in rows]
        print_table(list(rows[0]), shown)


@models.command()
@click.argument("model", metavar="MODEL", shell_complete=complete.models)
@options.stacked(options.revision, options.config, options.device, options.dtype, options.json)
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
    found = model_facts(lm) | asdict(measure_speed(lm, get_recipe("default")))
    if not GGUF.matches(Path(model)):
        print_report(found, as_json=as_json)
        return
    read = gguf_facts(Path(model), None if config is None else Path(config))
    print_report(found, as_json=as_json, details={"gguf": read})
    if not as_json:
        echo()
        print_fields({f"gguf_{name}": _listed(value) for name, value in read.items()})


def _listed(value: Any) -> Any:
    """A dictionary as one line."""
    if not isinstance(value, dict):
        return value
    return ", ".join(f"{name} {shown}" for name, shown in value.items())
