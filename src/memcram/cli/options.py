"""Options that several commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from memcram.cli import complete

if TYPE_CHECKING:
    from memcram.models import FrozenLM

Command = TypeVar("Command", bound=Callable[..., Any])


class ChunkTokens(click.ParamType[int | None]):
    """A number of tokens, or `auto` (None)."""

    name = "tokens"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """None for `auto`, else a whole number of at least 1."""
        if value == "auto":
            return None
        try:
            tokens = int(value)
        except ValueError:
            tokens = 0
        if tokens < 1:
            self.fail(f"got {value!r}, allowed: auto, or a whole number from 1", param, ctx)
        return tokens


class WholeNumber(click.IntRange):
    """A whole number in a range; click calls it an integer range in errors."""

    name = "whole number"


def number(*names: str, least: int = 1, **settings: Any) -> Callable[[Command], Command]:
    """Declare an option that takes a whole number of at least `least`."""
    usual: dict[str, Any] = {
        "type": WholeNumber(min=least),
        "metavar": "N",
        "show_default": True,
    }
    return click.option(*names, **usual | settings)


def output(
    metavar: str, description: str, *, required: bool = False
) -> Callable[[Command], Command]:
    """Declare `--output`, whose name the shell completes."""
    return click.option(
        "-o",
        "--output",
        metavar=metavar,
        shell_complete=complete.files,
        required=required,
        help=description,
    )


json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Do not show progress.")
force = click.option("--force", is_flag=True, help="Replace an existing output file.")
device = click.option(
    "--device", metavar="NAME", help="cuda, cuda:1, mps or cpu.  [default: the first available]"
)
model = click.option(
    "--model",
    metavar="MODEL",
    shell_complete=complete.models,
    default="pocket",
    show_default=True,
    help="Packaged name, local folder, GGUF file or hub id.",
)
revision = click.option("--revision", metavar="REV", help="Branch, tag or commit of a hub model.")
config = click.option(
    "--config",
    metavar="FOLDER",
    shell_complete=complete.files,
    help="Folder with the original config.json of a GGUF model.  [default: the file's metadata]",
)
archive_model = click.option(
    "--model",
    metavar="MODEL",
    shell_complete=complete.models,
    help="Where to load the archive's model from.  [default: the name in its manifest]",
)


vectors = number("--vectors", "-K", default=1, metavar="K", help="Vectors per chunk or text.")
chunk_tokens = click.option(
    "--chunk-tokens",
    type=ChunkTokens(),
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Tokens per chunk; auto cuts where the vectors are full.",
)
recipe = click.option(
    "--recipe",
    metavar="RECIPE",
    shell_complete=complete.recipes,
    default="default",
    show_default=True,
    help="Recipe by name, or a variant such as default@tau=0.1,lr=0.5.",
)
steps = number(
    "--steps",
    help="Maximum optimiser steps per chunk or text and per restart.  [default: the recipe's]",
)
token_steps = number(
    "--token-steps", help="Budget per chunk or text in token-steps, instead of the recipe's steps."
)
seed = click.option(
    "--seed",
    type=WholeNumber(min=0, max=2**32 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Random seed; the same seed gives the same result on the same machine.",
)
dtype = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Dtype of the model and the vectors; float32 is portable between machines.",
)
store = click.option(
    "--store",
    type=click.Choice(["float32", "bfloat16", "float16", "int8", "int4", "least"]),
    help="Precision of the stored vectors; least takes the fewest bits that hold each chunk."
    "  [default: that of --dtype]",
)
compute_dtype = click.option(
    "--compute-dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Dtype of the model while optimising; vectors are finished in --dtype.",
)
compile_trunk = click.option(
    "--compile",
    "compile_trunk",
    is_flag=True,
    help="Compile the model of --compute-dtype bfloat16; worthwhile from about 300 steps.",
)


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Combine several options into one decorator, in the order they are shown."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# Options that are arguments of `load_lm`.
_LOADING = ("revision", "config", "device", "dtype")


@dataclass(frozen=True)
class Loader:
    """Loads the model that the options name.

    Attributes:
        model: its name.
        how: keyword arguments of `load_lm`.
    """

    model: str
    how: dict[str, Any]

    def __call__(self) -> "FrozenLM":
        """Load the model."""
        from memcram.models import load_lm

        return load_lm(self.model, **self.how)


def with_loader(command: Callable[..., None]) -> Callable[..., None]:
    """Pass `load`, which loads the model, instead of the options that name it.

    These are `model` and the names in `_LOADING`; the model is loaded once the command has
    checked everything else.
    """

    @wraps(command)
    def decorated(model: str, **rest: Any) -> None:
        command(load=Loader(model, {name: rest.pop(name) for name in _LOADING}), **rest)

    return decorated
