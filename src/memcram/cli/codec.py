"""compress, decompress, inspect, verify."""

import gzip
import lzma
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memcram.cli.command import Command
from memcram.cli.console import ShowProgress, print_fields, print_json, progress_bar
from memcram.cli.options import (
    STREAM,
    archive_model_options,
    check_input,
    check_output,
    chunk_tokens_option,
    compute_dtype_option,
    device_option,
    dtype_option,
    force_option,
    json_option,
    model_options,
    quiet_option,
    read_input,
    recipe_option,
    seed_option,
    stacked,
    steps_option,
    vectors_option,
    write_output,
)
from memcram.errors import UsageError
from memcram.files import ARCHIVE_SUFFIX

if TYPE_CHECKING:
    from memcram.archive import Archive
    from memcram.compression.chunks import CodecProgress
    from memcram.engine.compute import ComputeDtype
    from memcram.models import FrozenLM
    from memcram.models.modes import DtypeName


@click.command(cls=Command)
@click.argument("text")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help=f"Archive to write, or - for standard output.  [default: TEXT{ARCHIVE_SUFFIX}]",
)
@model_options
@stacked(vectors_option, chunk_tokens_option, recipe_option)
@stacked(steps_option, seed_option, device_option, dtype_option, compute_dtype_option)
@stacked(force_option, json_option, quiet_option)
def compress(
    text: str,
    output: str | None,
    model: str,
    revision: str | None,
    config: str | None,
    vectors: int,
    chunk_tokens: int | None,
    recipe: str,
    steps: int | None,
    seed: int,
    device: str | None,
    dtype: "DtypeName",
    compute_dtype: "ComputeDtype",
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cram TEXT (a UTF-8 file, or - for standard input) into vectors.

    With --chunk-tokens N a chunk that is not exact is restarted up to three times. --force also
    drops the finished chunks of an interrupted run with other settings.

    \b
    Examples:
      memcram compress poem.txt
      memcram compress poem.txt --vectors 4 -o poem4.mem.safetensors
      memcram compress poem.txt --model EleutherAI/pythia-160m --device cuda
      cat poem.txt | memcram compress - -o - > poem.mem.safetensors
    """
    started = time.perf_counter()
    if output is None:
        if text == STREAM:
            problem = "name a file (or -) when TEXT is standard input"
            raise UsageError(problem, argument="output")
        output = text + ARCHIVE_SUFFIX
    if output == STREAM and as_json:
        raise UsageError("stdout already carries the archive (-o -)", argument="as_json")
    check_input(text, "text")
    check_output(output, force=force)
    data = read_input(text, "text")

    from memcram.compression import codec
    from memcram.models import load_lm

    content = codec.decode_text(data, text)
    chosen = codec.get_recipe_with(recipe, steps).for_one_text()
    lm = load_lm(model, revision=revision, config=config, device=device, dtype=dtype)
    # Finished chunks are kept next to the output, so that an interrupted run can resume.
    partial = None if output == STREAM else Path(output.removesuffix(ARCHIVE_SUFFIX) + ".partial")
    with progress_bar("cramming", unit="tokens", quiet=quiet) as show:
        archive = codec.compress(
            content,
            lm,
            vectors=vectors,
            chunk_tokens=chunk_tokens,
            recipe=chosen,
            seed=seed,
            compute_dtype=compute_dtype,
            partial=partial,
            force=force,
            on_progress=_chunks(show),
        )
    _write_archive(output, archive.to_bytes(), partial)
    report = {
        "output": output,
        **archive.summary(),
        "seconds": round(time.perf_counter() - started, 2),
        "gzip_bytes": len(gzip.compress(data, 9)),
        "xz_bytes": len(lzma.compress(data, preset=9)),
    }
    if as_json:
        print_json(report)
    else:
        print_fields(report, err=output == STREAM)


@click.command(cls=Command)
@click.argument("archive")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help=f"Text to write, or - for standard output.  [default: ARCHIVE without {ARCHIVE_SUFFIX}]",
)
@archive_model_options
@stacked(device_option, force_option, json_option, quiet_option)
def decompress(
    archive: str,
    output: str | None,
    model: str | None,
    config: str | None,
    device: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Decode ARCHIVE (a file, or - for standard input) to the bytes that went in.

    \b
    Examples:
      memcram decompress poem.txt.mem.safetensors -o -
      memcram decompress poem.txt.mem.safetensors -o poem.txt --force
    """
    started = time.perf_counter()
    if output is None:
        if not archive.endswith(ARCHIVE_SUFFIX) or archive == ARCHIVE_SUFFIX:
            problem = f"name a file; {archive!r} does not end in {ARCHIVE_SUFFIX}"
            raise UsageError(problem, argument="output")
        output = archive.removesuffix(ARCHIVE_SUFFIX)
    if output == STREAM and as_json:
        raise UsageError("stdout already carries the text (-o -)", argument="as_json")
    opened = open_archive(archive)
    check_output(output, force=force)

    from memcram.compression import codec

    lm = open_model(opened, model, config, device)
    with progress_bar("decoding", unit="tokens", quiet=quiet) as show:
        data = codec.decompress(opened, lm, _chunks(show))
    write_output(output, data)
    report = {
        "output": output,
        "bytes_out": len(data),
        "tokens": opened.manifest.text.tokens,
        "sha256": opened.manifest.text.sha256,
        "seconds": round(time.perf_counter() - started, 2),
    }
    if as_json:
        print_json(report)
    elif output != STREAM:
        print_fields(report)


@click.command(cls=Command)
@click.argument("archive")
@json_option
def inspect(archive: str, as_json: bool) -> None:
    """Show the contents of ARCHIVE (a file, or - for standard input) without loading a model.

    \b
    Examples:
      memcram inspect poem.txt.mem.safetensors
      memcram inspect poem.txt.mem.safetensors --json
    """
    opened = open_archive(archive)
    made = opened.manifest
    report = {
        "archive": archive,
        "version": made.version,
        "model": made.model.id,
        "revision": made.model.revision,
        "fingerprint": made.model.fingerprint,
        "dtype": made.dtype,
        "layout": made.layout,
        "seed": made.seed,
        "text_sha256": made.text.sha256,
        **opened.summary(),
    }
    if as_json:
        print_json(report | {"recipe": made.recipe, "versions": made.versions})
    else:
        versions = ", ".join(f"{name} {number}" for name, number in made.versions.items())
        print_fields(report | {"recipe": made.recipe.get("name"), "versions": versions})


@click.command(cls=Command)
@click.argument("archive")
@archive_model_options
@stacked(device_option, json_option, quiet_option)
def verify(
    archive: str,
    model: str | None,
    config: str | None,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Decode ARCHIVE on this machine, compare checksums, and measure its margins.

    \b
    Examples:
      memcram verify poem.txt.mem.safetensors
      memcram verify poem.txt.mem.safetensors --device cuda --json
    """
    opened = open_archive(archive)

    import memcram.compression as library

    lm = open_model(opened, model, config, device)
    with progress_bar("decoding", unit="tokens", quiet=quiet) as show:
        found = library.verify(opened, lm, _chunks(show))
    report = {"archive": archive, "restored": True, **asdict(found)}
    if as_json:
        print_json(report)
    else:
        print_fields(report)


def open_archive(name: str, argument: str = "archive") -> "Archive":
    """The archive in a file or pipe, or in standard input for `-`."""
    check_input(name, argument)

    from memcram.archive import Archive

    if name == STREAM:
        return Archive.from_bytes(read_input(name, argument), "standard input")
    return Archive.read(name)


def open_model(
    opened: "Archive", model: str | None, config: str | None, device: str | None
) -> "FrozenLM":
    """The model that an archive names, or that the user names instead."""
    from memcram.models import load_lm

    made = opened.manifest
    name = made.model.id if model is None else model
    revision = made.model.revision if model is None else None
    return load_lm(
        name,
        revision=revision,
        config=config,
        device=device,
        dtype=made.dtype,
        layout=made.layout,
    )


def _chunks(show: ShowProgress) -> "Callable[[CodecProgress], None]":
    """Show tokens and finished chunks."""

    def report(state: "CodecProgress") -> None:
        show(state.tokens_correct, state.tokens_total, f"{state.chunks_done} chunks done")

    return report


def _write_archive(output: str, content: bytes, partial: Path | None) -> None:
    """Write an archive; if that fails, say where the finished work is kept.

    Raises:
        UsageError: the output can't be written.
    """
    try:
        write_output(output, content)
    except (UsageError, BrokenPipeError) as error:
        problem = str(error) if isinstance(error, UsageError) else "standard output was closed"
        if partial is None:
            raise UsageError(f"{problem}; the archive is kept in {_rescue(content)!r}") from error
        if not partial.is_dir():
            raise
        kept = f"all chunks are kept in {str(partial)!r}; run it again to go on"
        raise UsageError(f"{problem}; {kept}") from error
    if partial is not None:
        shutil.rmtree(partial, ignore_errors=True)


def _rescue(content: bytes) -> str:
    """Path of a new file in the folder for temporary files, with this content."""
    try:
        handle, path = tempfile.mkstemp(prefix="memcram-", suffix=ARCHIVE_SUFFIX)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"the archive is lost: neither output could be written ({reason})"
        ) from error
    return path
