"""Export archives to the formats of other programs and to the Hub, and import from them.

A format is one module with an `Exporter` and one row in `EXPORTERS`. A program whose prompts can
be read also has a row in `IMPORTERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from memcram.archive.format import Archive
from memcram.errors import UsageError
from memcram.export.base import Exporter
from memcram.export.hub import Pulled, Pushed, pull, push, write_repository
from memcram.export.llama_cpp import LlamaCppExporter
from memcram.export.peft import PeftExporter, read_peft
from memcram.export.transformers import TransformersExporter
from memcram.export.vllm import VllmExporter
from memcram.files import holds_files, new_folder
from memcram.models.frozen_lm import FrozenLM

EXPORTERS: dict[str, Exporter] = {
    one.name: one
    for one in (TransformersExporter(), PeftExporter(), VllmExporter(), LlamaCppExporter())
}
"""Exporters, by the name of the program that they write for."""

IMPORTERS: dict[str, Callable[[str | Path], Tensor]] = {"peft": read_peft}
"""Functions that read the vectors (K, width) in a folder, by the program that trained them."""

__all__ = [
    "EXPORTERS",
    "IMPORTERS",
    "Exporter",
    "Pulled",
    "Pushed",
    "export",
    "get_exporter",
    "get_importer",
    "pull",
    "push",
    "read_peft",
    "write_repository",
]

_Row = TypeVar("_Row")


def get_exporter(name: str, dtype: str | None = None) -> Exporter:
    """Look up an exporter.

    Args:
        name: a key of `EXPORTERS`.
        dtype: the one that the program will load the model in, which only `vllm` can choose; None
            for the archive's.

    Raises:
        UsageError: no exporter has that name, or it takes no dtype.
    """
    exporter = _look_up(EXPORTERS, name)
    if dtype is None:
        return exporter
    if not isinstance(exporter, VllmExporter):
        raise UsageError(f"exports to {name} keep the archive's dtype", argument="dtype")
    return replace(exporter, dtype=dtype)


def get_importer(name: str) -> Callable[[str | Path], Tensor]:
    """Look up the function that reads a program's prompts: folder to vectors (K, width).

    Raises:
        UsageError: no importer has that name.
    """
    return _look_up(IMPORTERS, name)


def _look_up(table: Mapping[str, _Row], name: str) -> _Row:
    if name not in table:
        raise UsageError(argument="runtime", got=name, allowed=", ".join(table))
    return table[name]


def export(
    archive: Archive,
    target: FrozenLM,
    runtime: str,
    output: str | Path,
    *,
    dtype: str | None = None,
) -> Path:
    """Check an archive and write it for another program; the folder is complete or not written.

    Args:
        archive: the archive to export.
        target: the model the vectors will be used with; must be the archive's.
        runtime: a key of `EXPORTERS`.
        output: the folder to create; an existing one must be empty.
        dtype: see `get_exporter`.

    Returns:
        The folder.

    Raises:
        UsageError: the runtime is unknown, the folder is in use or can't be written, the archive
            was made with another model, dtype or layout, or the program would decode to another
            text.
    """
    exporter = get_exporter(runtime, dtype)
    folder = Path(output)
    check_folder(folder)
    exporter.check(archive, target)
    with new_folder(folder) as temporary:
        exporter.write(archive, target, temporary)
    return folder


def check_folder(folder: Path) -> None:
    """Refuse an output folder before any work is done for it.

    Raises:
        UsageError: it is a file or a folder in use, or its parent folder does not exist.
    """
    if holds_files(folder):
        raise UsageError(f"{str(folder)!r} is not empty; name a new folder", argument="output")
