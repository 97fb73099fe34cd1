"""Options that several commands share, and the reading and writing of texts."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from memcram.errors import TextError, UsageError
from memcram.files import check_writable, write_atomically

STREAM = "-"
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


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")
force_option = click.option("--force", is_flag=True, help="Replace an existing output file.")
device_option = click.option(
    "--device", metavar="NAME", help="cuda, cuda:1, mps or cpu.  [default: the first at hand]"
)
model_option = click.option(
    "--model",
    metavar="MODEL",
    default="pocket",
    show_default=True,
    help="Packaged name, local folder or hub id.",
)
revision_option = click.option(
    "--revision", metavar="REV", help="Branch, tag or commit of a hub model."
)
archive_model_option = click.option(
    "--model",
    metavar="MODEL",
    help="Where the archive's model is, if not where its manifest says.",
)


vectors_option = click.option(
    "--vectors",
    "-K",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Vectors for each chunk or text.",
)
chunk_tokens_option = click.option(
    "--chunk-tokens",
    type=ChunkTokens(),
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Tokens in each chunk; auto cuts where the vectors are full.",
)
recipe_option = click.option(
    "--recipe",
    metavar="RECIPE",
    default="default",
    show_default=True,
    help="How to cram: a name, or a variant such as default@tau=0.1,lr=0.5.",
)
steps_option = click.option(
    "--steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Optimiser steps from each start of a chunk or text.  [default: the recipe's]",
)
token_steps_option = click.option(
    "--token-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Budget of each text in token-steps, in place of the recipe's steps.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=0,
    show_default=True,
    help="The same seed gives the same result on the same machine.",
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the model and the vectors; float32 is the portable mode.",
)


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order they are to be shown."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def read_input(name: str, argument: str) -> bytes:
    """Bytes of a file, or of standard input for `-`.

    Raises:
        TextError: there is no such file, it is a folder, or it can't be read.
    """
    if name == STREAM:
        return sys.stdin.buffer.read()
    path = Path(name)
    if path.is_dir():
        raise TextError(f"{argument}: {name!r} is a folder; name a file, or - for standard input")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TextError(f"{argument}: {name!r} does not exist") from error
    except OSError as error:
        raise TextError(f"{argument}: {name!r} can't be read ({error.strerror})") from error


def check_output(name: str, *, force: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        UsageError: it exists without `--force`, or its folder is missing or read-only.
    """
    if name == STREAM:
        if sys.stdout.isatty():
            raise UsageError("-o: '-' is a terminal; redirect it or name a file")
        return
    check_writable(Path(name), force=force)


def write_output(name: str, data: bytes) -> None:
    """Write a file whole or not at all, or to standard output for `-`."""
    if name == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomically(Path(name), data)
