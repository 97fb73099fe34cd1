"""The commands `compress`, `decompress`, `inspect` and `verify`."""

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

from memcram.cli import complete, options
from memcram.cli.backend import Backend, crammer_of, with_backend
from memcram.cli.command import Command
from memcram.cli.console import (
    STREAM,
    check_input,
    check_output,
    chunk_progress,
    print_fields,
    print_json,
    print_report,
    progress_bar,
    read_input,
    write_output,
)
from memcram.errors import Interrupted, UsageError
from memcram.files import ARCHIVE_SUFFIX

if TYPE_CHECKING:
    from memcram.archive import Archive
    from memcram.compression.chunks import CodecProgress
    from memcram.engine.compute import ComputeDtype
    from memcram.models import FrozenLM
    from memcram.quantisation import Store


@click.command(cls=Command)
@click.argument("text", shell_complete=complete.files)
@options.output(
    "FILE", f"Archive to write, or - for standard output.  [default: TEXT{ARCHIVE_SUFFIX}]"
)
@options.stacked(options.model, options.revision, options.config)
@options.stacked(options.vectors, options.chunk_tokens, options.recipe)
@options.stacked(options.steps, options.token_steps)
@click.option(
    "--margin",
    type=float,
    metavar="LOGITS",
    help="Optimise until every margin exceeds this; 1 or more for llama-cpp."
    "  [default: the recipe's]",
)
@click.option(
    "--init",
    metavar="ARCHIVE",
    shell_complete=complete.files,
    help="Start from the vectors of an earlier archive of this model.  [default: the recipe's]",
)
@options.stacked(options.store, options.seed, options.device, options.dtype)
@options.stacked(options.compute_dtype, options.compile_trunk)
@with_backend
@options.stacked(options.force, options.json, options.quiet)
@options.with_loader
def compress(
    text: str,
    output: str | None,
    load: options.Loader,
    vectors: int,
    chunk_tokens: int | None,
    recipe: str,
    steps: int | None,
    token_steps: int | None,
    margin: float | None,
    init: str | None,
    store: "Store | None",
    seed: int,
    compute_dtype: "ComputeDtype",
    compile_trunk: bool,
    backend: Backend,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cram TEXT into input vectors and write an archive.

    TEXT is a UTF-8 file, or - for standard input. After an interruption the same command
    continues; --force drops the finished chunks of a run with other settings. With --chunk-tokens N
    a chunk that is not exact is restarted up to three times. With --store in fewer bits, a chunk
    that no longer fits is shortened.

    With --init, each chunk starts from the vectors that the other archive has at the same token of
    its text; restarts, and chunks after its last token, start from the recipe's init.

    With --backend ray, several workers cram the chunks of a long text.

    \b
    Examples:
      memcram compress poem.txt
      memcram compress poem.txt --vectors 4 -o poem4.mem.safetensors
      memcram compress poem.txt --model EleutherAI/pythia-160m --device cuda
      memcram compress poem.txt --model model.gguf --margin 1
      memcram compress poem.txt --init draft.mem.safetensors --steps 2000
      memcram compress poem.txt --store least
      memcram compress book.txt --chunk-tokens 32 --backend ray --workers 2
      cat poem.txt | memcram compress - -o - > poem.mem.safetensors
    """
    started = time.perf_counter()
    output = _archive_name(text) if output is None else output
    backend.check()
    check_input(text, "text")
    check_output(output, force=force, as_json=as_json)
    initial = None if init is None else _open_init(init, text)
    data = read_input(text, "text")

    from memcram.compression import codec

    content = codec.decode_text(data, text)
    chosen = codec.get_recipe_with(recipe, steps, token_steps).for_one_text()
    lm = load()
    # Finished chunks are kept next to the output, so that an interrupted run can resume.
    partial = None if output == STREAM else Path(output.removesuffix(ARCHIVE_SUFFIX) + ".partial")
    with (
        backend.connect() as cluster,
        progress_bar("cramming", unit="tokens", quiet=quiet) as show,
    ):
        archive = codec.compress(
            content,
            lm,
            vectors=vectors,
            chunk_tokens=chunk_tokens,
            recipe=chosen,
            margin=margin,
            store=store,
            seed=seed,
            compute_dtype=compute_dtype,
            compile_trunk=compile_trunk,
            init=initial,
            partial=partial,
            force=force,
            on_progress=chunk_progress(show),
            crammer=crammer_of(cluster, load),
        )
    _write_archive(output, archive.to_bytes(), partial)
    report = {
        "output": output,
        **archive.summary(),
        "seconds": round(time.perf_counter() - started, 2),
        **_usual_sizes(data),
    }
    print_report(report, as_json=as_json, err=output == STREAM)


@click.command(cls=Command)
@click.argument("archive", shell_complete=complete.files)
@options.output(
    "FILE", f"File to write, or - for standard output.  [default: ARCHIVE without {ARCHIVE_SUFFIX}]"
)
@options.stacked(options.archive_model, options.config, options.device)
@options.stacked(options.force, options.json, options.quiet)
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
    """Restore the text of ARCHIVE, byte for byte.

    ARCHIVE is a file, or - for standard input. A file is written once the whole text is decoded and
    its SHA-256 is that of the original. With -o - the text is printed while later chunks are still
    being decoded; if the check at the end fails, the exit code is 3.

    \b
    Examples:
      memcram decompress poem.txt.mem.safetensors -o -
      memcram decompress poem.txt.mem.safetensors -o poem.txt --force
    """
    started = time.perf_counter()
    if output is None:
        if not archive.endswith(ARCHIVE_SUFFIX) or archive == ARCHIVE_SUFFIX:
            problem = f"{archive!r} does not end in {ARCHIVE_SUFFIX}; name the text with --output"
            raise UsageError(problem, argument="archive")
        output = archive.removesuffix(ARCHIVE_SUFFIX)
    opened = open_archive(archive)
    check_output(output, force=force, as_json=as_json)

    from memcram.compression import codec

    lm = open_model(opened, model, config, device)
    with progress_bar("decoding", unit="tokens", quiet=quiet) as show:
        if output == STREAM:
            _print_text(opened, lm, chunk_progress(show))
            return
        data = codec.decompress(opened, lm, chunk_progress(show))
    write_output(output, data)
    report = {
        "output": output,
        "bytes_out": len(data),
        "tokens": opened.manifest.text.tokens,
        "sha256": opened.manifest.text.sha256,
        "seconds": round(time.perf_counter() - started, 2),
    }
    print_report(report, as_json=as_json)


@click.command(cls=Command)
@click.argument("archive", shell_complete=complete.files)
@options.json
def inspect(archive: str, as_json: bool) -> None:
    """Show the contents of ARCHIVE, without loading a model.

    ARCHIVE is a file, or - for standard input.

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
@click.argument("archive", shell_complete=complete.files)
@options.stacked(options.archive_model, options.config, options.device)
@options.stacked(options.json, options.quiet)
def verify(
    archive: str,
    model: str | None,
    config: str | None,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Decode ARCHIVE on this machine, and measure its margins.

    The text is compared with its SHA-256 but not written. ARCHIVE is a file, or - for standard
    input.

    \b
    Examples:
      memcram verify poem.txt.mem.safetensors
      memcram verify poem.txt.mem.safetensors --device cuda --json
    """
    opened = open_archive(archive)

    import memcram.compression as library

    lm = open_model(opened, model, config, device)
    with progress_bar("decoding", unit="tokens", quiet=quiet) as show:
        found = library.verify(opened, lm, chunk_progress(show))
    report = {"archive": archive, "restored": True, **asdict(found)}
    print_report(report, as_json=as_json)


def _usual_sizes(data: bytes) -> dict[str, int]:
    """Bytes of the text under gzip and xz."""
    gzipped, xz = gzip.compress(data, 9), lzma.compress(data, preset=9)
    return {"gzip_bytes": len(gzipped), "xz_bytes": len(xz)}


def _archive_name(text: str) -> str:
    if text == STREAM:
        problem = "name a file (or -) when TEXT is standard input"
        raise UsageError(problem, argument="output")
    return text + ARCHIVE_SUFFIX


def _open_init(name: str, text: str) -> "Archive":
    """The archive to start from, which standard input can be only if it is not the text."""
    if name == text == STREAM:
        raise UsageError("standard input is TEXT already", argument="init")
    return open_archive(name, "init")


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


def _print_text(
    opened: "Archive", lm: "FrozenLM", on_progress: "Callable[[CodecProgress], None]"
) -> None:
    """Write the text to standard output as leading chunks finish.

    Raises:
        Interrupted: Ctrl-C after the first of it.
    """
    from memcram.compression.verify import restore

    started = False
    try:
        for part in restore(opened, lm, on_progress):
            write_output(STREAM, part)
            started = True
    except KeyboardInterrupt as error:
        if not started:
            raise
        raise Interrupted("standard output has only the beginning of the text") from error


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
        kept = f"all chunks are kept in {str(partial)!r}; run the command again to continue"
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
