"""Read the packaged values that papers published, and the grid that they measured.

`data/published_results.csv` holds the values, `data/published_grid.csv` the grid of `kuratov2025`.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, TypeAdapter

# How the cells of a CSV are read.
_EMPTY_IS_NONE = BeforeValidator(lambda cell: cell or None)
_Integers = Annotated[tuple[int, ...], BeforeValidator(str.split)]
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class PublishedResult:
    """One published value; `unit` is tokens or nats, `std` is None if none was published."""

    study: str
    model: str
    hf_id: str
    params_b: float
    width: int
    vocab: int
    text: str
    n_mem: int
    quantity: str
    mean: float
    std: Annotated[float | None, _EMPTY_IS_NONE]
    unit: str


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """All rows of the packaged table, in its order."""
    return _read("published_results.csv", PublishedResult)


def published_shapes(study: str = "kuratov2025") -> dict[str, tuple[int, int]]:
    """Input width and vocabulary of each model of a study, by hub id, in the table's order."""
    return {row.hf_id: (row.width, row.vocab) for row in published_results() if row.study == study}


@dataclass(frozen=True)
class PublishedGrid:
    """Grid of `kuratov2025` for one model and one kind of text.

    Attributes:
        hf_id: hub id of the model.
        text: `books`, `fanfics` or `random`.
        lengths: in tokens; empty for random texts.
        random_cap: random texts have a length uniform in 2 … this, in tokens; else None.
        n_mem: all K.
        dtype: dtype of autocast, with float32 weights.
        flash: whether flash attention 2 was used.
        samples: texts per length; for random texts, in total.
    """

    hf_id: str
    text: str
    lengths: _Integers
    random_cap: Annotated[int | None, _EMPTY_IS_NONE]
    n_mem: _Integers
    dtype: str
    flash: bool
    samples: int


@cache
def published_grid() -> tuple[PublishedGrid, ...]:
    """All rows of the packaged grid, in its order."""
    return _read("published_grid.csv", PublishedGrid)


def _read(name: str, kind: type[_Row]) -> tuple[_Row, ...]:
    lines = files("memcram").joinpath("data", name).read_text("utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return tuple(map(TypeAdapter(kind).validate_python, rows))
