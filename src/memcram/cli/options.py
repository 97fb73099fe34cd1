"""Options that several commands share, and the reading and writing of texts."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from memcram.cli.console import is_terminal, writing
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
    "--device", metavar="NAME", help="cuda, cuda:1, mps or cpu.  [default: the first available]"
)
model_option = click.option(
    "--model",
    metavar="MODEL",
    default="pocket",
    show_default=True,
    help="Packaged name, local folder, GGUF file or hub id.",
)
revision_option = click.option(
    "--revision", metavar="REV", help="Branch, tag or commit of a hub model."
)
config_option = click.option(
    "--config",
    metavar="FOLDER",
    help="Folder with the original config.json of a GGUF model.  [default: the file's metadata]",
)
archive_model_option = click.option(
    "--model",
    metavar="MODEL",
    help="Where to load the archive's model from.  [default: the name in its manifest]",
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
    help="Optimiser steps for each chunk or text, and each restart.  [default: the recipe's]",
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
    help="Dtype of the model and the vectors; float32 is portable between machines.",
)
compute_dtype_option = click.option(
    "--compute-dtype",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Dtype of the model while optimising; vectors are finished in --dtype.",
)


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order they are to be shown."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


model_options = stacked(model_option, revision_option, config_option)
archive_model_options = stacked(archive_model_option, config_option)


def check_input(name: str, argument: str) -> None:
    """Refuse a file that can't be read, before any work is done for it.

    Raises:
        TextError: there is no such file, or it is a folder.
    """
    try:
        is_folder = name != STREAM and Path(name).is_dir()
        if name != STREAM:
            Path(name).stat()
    except FileNotFoundError as error:
        raise TextError(f"{name!r} does not exist", argument=argument) from error
    except OSError as error:
        raise TextError(f"{name!r} can't be read ({error.strerror})", argument=argument) from error
    if is_folder:
        hint = "name a file, or - for standard input"
        raise TextError(f"{name!r} is a folder; {hint}", argument=argument)


def read_input(name: str, argument: str) -> bytes:
    """Bytes of a file, or of standard input for `-`.

    Raises:
        TextError: there is no such file, it is a folder, or it can't be read.
    """
    check_input(name, argument)
    if name == STREAM and sys.stdin is None:
        raise TextError("standard input is closed", argument=argument)
    try:
        return sys.stdin.buffer.read() if name == STREAM else Path(name).read_bytes()
    except OSError as error:
        raise TextError(f"{name!r} can't be read ({error.strerror})", argument=argument) from error


def check_output(name: str, *, force: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        UsageError: it exists without `force`, its folder is missing or read-only, or standard
            output is closed or a terminal.
    """
    if name != STREAM:
        check_writable(Path(name), force=force)
    elif sys.stdout is None:
        raise UsageError("standard output is closed", argument="output")
    elif is_terminal(sys.stdout):
        raise UsageError("'-' is a terminal; redirect it or name a file", argument="output")


def write_output(name: str, data: bytes) -> None:
    """Write a file completely or not at all, or to standard output for `-`.

    Raises:
        UsageError: it can't be written.
        BrokenPipeError: the reader of standard output has gone.
    """
    if name == STREAM:
        with writing("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    else:
        write_atomically(Path(name), data)
