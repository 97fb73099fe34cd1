"""What the papers printed, packaged with its source (data/published_results.csv)."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedResult:
    """One printed figure; `unit` says tokens or nats, `std` is None where none was printed."""

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
    lines = files("memcram").joinpath("data/published_results.csv").read_text("utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
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
        for row in rows
    )


def published_shapes(study: str = "kuratov2025") -> dict[str, tuple[int, int]]:
    """Input width and vocabulary of each model of a study, by hub id, in the table's order."""
    return {row.hf_id: (row.width, row.vocab) for row in published_results() if row.study == study}
