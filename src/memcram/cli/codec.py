"""compress, decompress, inspect, verify."""

import gzip
import lzma
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from memcram.cli.command import Command
from memcram.cli.console import print_fields, print_json, progress_bar
from memcram.cli.options import (
    STREAM,
    archive_model_option,
    check_output,
    chunk_tokens_option,
    device_option,
    dtype_option,
    force_option,
    json_option,
    model_option,
    quiet_option,
    read_input,
    recipe_option,
    revision_option,
    seed_option,
    stacked,
    steps_option,
    vectors_option,
    write_output,
)
from memcram.errors import UsageError

if TYPE_CHECKING:
    from memcram.archive import Archive
    from memcram.models import FrozenLM
    from memcram.models.modes import DtypeName

SUFFIX = ".mem.safetensors"


@click.command(cls=Command)
@click.argument("text")
@click.option("-o", "--output", metavar="FILE", help=f"Archive to write.  [default: TEXT{SUFFIX}]")
@stacked(model_option, revision_option, vectors_option, chunk_tokens_option, recipe_option)
@stacked(steps_option, seed_option, device_option, dtype_option)
@stacked(force_option, json_option, quiet_option)
def compress(
    text: str,
    output: str | None,
    model: str,
    revision: str | None,
    vectors: int,
    chunk_tokens: int | None,
    recipe: str,
    steps: int | None,
    seed: int,
    device: str | None,
    dtype: "DtypeName",
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cram TEXT (a UTF-8 file, or - for standard input) into vectors.

    With --chunk-tokens N a chunk that does not come out right is begun anew, up to three times.
    --force drops finished chunks of a run with other settings, too.

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
            raise UsageError("-o: name an output file (or -) when TEXT is standard input")
        output = text + SUFFIX
    if output == STREAM and as_json:
        raise UsageError("--json: stdout already carries the archive (-o -)")
    data = read_input(text, "TEXT")
    check_output(output, force=force)

    from memcram.compression import codec
    from memcram.models import load_lm
    from memcram.recipes.catalogue import get_recipe

    codec.decode_utf8(data, text)
    get_recipe(recipe)
    lm = load_lm(model, revision=revision, device=device, dtype=dtype)
    # Finished chunks are kept beside the output, so that a broken run can go on.
    partial = None if output == STREAM else Path(output.removesuffix(SUFFIX) + ".partial")
    with progress_bar("cramming", None, quiet=quiet) as on_progress:
        archive = codec.compress(
            data,
            lm,
            vectors=vectors,
            chunk_tokens=chunk_tokens,
            recipe=recipe,
            steps=steps,
            seed=seed,
            partial=partial,
            force=force,
            on_progress=on_progress,
        )
    try:
        write_output(output, archive.to_bytes())
    except UsageError as error:
        if partial is None or not partial.is_dir():
            raise
        kept = f"{error} of it; all chunks are kept in {str(partial)!r}, run it again to go on"
        raise UsageError(kept) from error
    if partial is not None:
        shutil.rmtree(partial, ignore_errors=True)
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
    help=f"Text to write, or - for standard output.  [default: ARCHIVE without {SUFFIX}]",
)
@stacked(archive_model_option, device_option, force_option, json_option, quiet_option)
def decompress(
    archive: str,
    output: str | None,
    model: str | None,
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
        if not archive.endswith(SUFFIX) or archive == SUFFIX:
            raise UsageError(f"-o: name an output file; {archive!r} does not end in {SUFFIX}")
        output = archive.removesuffix(SUFFIX)
    if output == STREAM and as_json:
        raise UsageError("--json: stdout already carries the text (-o -)")
    opened = open_archive(archive)
    check_output(output, force=force)

    from memcram.compression import codec

    lm = open_model(opened, model, device)
    with progress_bar("decoding", opened.manifest.text.tokens, quiet=quiet) as on_progress:
        data = codec.decompress(opened, lm, on_progress)
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
    """Show what ARCHIVE holds, without loading a model.

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
@stacked(archive_model_option, device_option, json_option, quiet_option)
def verify(archive: str, model: str | None, device: str | None, as_json: bool, quiet: bool) -> None:
    """Decode ARCHIVE here and now, compare checksums, and measure its margins.

    \b
    Example:
      memcram verify poem.txt.mem.safetensors
    """
    opened = open_archive(archive)

    from memcram.compression.verify import verify as verify_archive

    lm = open_model(opened, model, device)
    with progress_bar("decoding", opened.manifest.text.tokens, quiet=quiet) as on_progress:
        found = verify_archive(opened, lm, on_progress)
    report = {"archive": archive, "restored": True, **asdict(found)}
    if as_json:
        print_json(report)
    else:
        print_fields(report)


def open_archive(name: str) -> "Archive":
    """An archive from a file, or from standard input for `-`."""
    from memcram.archive import Archive

    if name == STREAM:
        return Archive.from_bytes(read_input(name, "ARCHIVE"), "standard input")
    if not Path(name).exists():
        raise UsageError(f"ARCHIVE: {name!r} does not exist")
    if Path(name).is_dir():
        raise UsageError(f"ARCHIVE: {name!r} is a folder; name a file")
    return Archive.read(name)


def open_model(opened: "Archive", model: str | None, device: str | None) -> "FrozenLM":
    """The model an archive names, or the one the user says it is."""
    from memcram.models import load_lm

    made = opened.manifest
    name = made.model.id if model is None else model
    revision = made.model.revision if model is None else None
    return load_lm(name, revision=revision, device=device, dtype=made.dtype, layout=made.layout)
