"""Values that papers printed, and the grid that they ran, packaged with their source.

`data/published_results.csv` holds the values, `data/published_grid.csv` the grid of `kuratov2025`.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedResult:
    """One printed value; `unit` is tokens or nats, `std` is None where none was printed."""

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
    std: float | None
    unit: str


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """All rows of the packaged table, in its order."""
    return tuple(
        PublishedResult(
            study=row["study"],
            model=row["model"],
            hf_id=row["hf_id"],
            params_b=float(row["params_b"]),
            width=int(row["width"]),
            vocab=int(row["vocab"]),
            text=row["text"],
            n_mem=int(row["n_mem"]),
            quantity=row["quantity"],
            mean=float(row["mean"]),
            std=float(row["std"]) if row["std"] else None,
            unit=row["unit"],
        )
        for row in _read("published_results.csv")
    )


def published_shapes(study: str = "kuratov2025") -> dict[str, tuple[int, int]]:
    """Input width and vocabulary of each model of a study, by hub id, in the table's order."""
    return {row.hf_id: (row.width, row.vocab) for row in published_results() if row.study == study}


@dataclass(frozen=True)
class PublishedGrid:
    """What `kuratov2025` ran of one model on one kind of text.

    Attributes:
        hf_id: hub id of the model.
        text: `books`, `fanfics` or `random`.
        lengths: in tokens; empty for random texts.
        random_cap: random texts have a length uniform in 2 … this, in tokens; else None.
        n_mem: the K that were run.
        dtype: of the autocast, over float32 weights.
        flash: with flash attention 2.
        samples: texts of each length; random texts in all.
    """

    hf_id: str
    text: str
    lengths: tuple[int, ...]
    random_cap: int | None
    n_mem: tuple[int, ...]
    dtype: str
    flash: bool
    samples: int


@cache
def published_grid() -> tuple[PublishedGrid, ...]:
    """All rows of the packaged grid, in its order."""
    return tuple(
        PublishedGrid(
            hf_id=row["hf_id"],
            text=row["text"],
            lengths=tuple(int(length) for length in row["lengths"].split()),
            random_cap=int(row["random_cap"]) if row["random_cap"] else None,
            n_mem=tuple(int(vectors) for vectors in row["n_mem"].split()),
            dtype=row["dtype"],
            flash=row["flash"] == "yes",
            samples=int(row["samples"]),
        )
        for row in _read("published_grid.csv")
    )


def _read(name: str) -> list[dict[str, str]]:
    lines = files("memcram").joinpath("data", name).read_text("utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))
