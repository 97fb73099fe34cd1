"""Read and write the token record of a row, a safetensors file."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import NoReturn

import safetensors
import safetensors.torch
from torch import Tensor

from memcram.errors import UsageError
from memcram.study.probe_record import wrong_probe
from memcram.study.results import TokenRecord
from memcram.study.schema import VERSION


def read_record(path: Path) -> TokenRecord:
    """Read a token record from its file.

    Raises:
        UsageError: the file is missing or damaged.
    """
    try:
        record = record_from(safetensors.torch.load(path.read_bytes()))
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise UsageError(f"{str(path)!r} can't be read as vectors ({error})") from error
    check_shapes(path, record)
    return record


def record_from(tensors: Mapping[str, Tensor]) -> TokenRecord:
    """Make a token record from tensors by the names of its fields; others are ignored.

    Raises:
        KeyError: a field is missing.
    """
    # A missing field with a default was not stored, or the store is older than the field.
    names = [f.name for f in fields(TokenRecord) if f.name in tensors or f.default is MISSING]
    return TokenRecord(**{name: tensors[name] for name in names})


def check_shapes(path: Path, record: TokenRecord) -> None:
    """Refuse vectors, a path and a probe whose shapes do not match."""
    mem, points, steps = record.mem, record.path, record.path_steps
    if mem.dim() != 2:
        damaged(path, "mem", mem, "(K, width)")
    if (wrong := wrong_probe(record)) is not None:
        damaged(path, *wrong)
    if points is None and steps is None:
        return
    if steps is None or steps.dim() != 1 or not len(steps) or steps.is_floating_point():
        damaged(path, "path_steps", steps, "(points,), one or more integers")
    wanted = (len(steps), *mem.shape)
    if points is None or tuple(points.shape) != wanted:
        damaged(path, "path", points, f"{wanted}, as its steps and mem")


def damaged(path: Path, name: str, got: Tensor | None, allowed: str) -> NoReturn:
    """Raise an error about the shape of one tensor of a file.

    Raises:
        UsageError: always.
    """
    shape = "none" if got is None else f"{tuple(got.shape)} of {str(got.dtype)[6:]}"
    raise UsageError(f"{str(path)!r} is damaged: {name}: got {shape}, allowed: {allowed}")


def record_bytes(record: TokenRecord) -> bytes:
    """Convert a token record to the bytes of its file; equal records give equal bytes."""
    every = {field.name: getattr(record, field.name) for field in fields(record)}
    tensors = {name: value.contiguous() for name, value in every.items() if value is not None}
    # One metadata key, since the library writes several in any order.
    data: bytes = safetensors.torch.save(tensors, {"format": f"memcram-study {VERSION}"})
    return data
