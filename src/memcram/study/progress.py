"""Count the tasks of a study by cell, and estimate the time left."""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memcram.study.planned import CellLabel, PlannedTask

Select = Callable[[str], list[sqlite3.Row]]

_LABEL = ("model", "condition", "recipe", "source", "length", "vectors")
_WITH_ROWS = "LEFT JOIN rows ON rows.task = tasks.id"
_SPENT = "sum(seconds) AS seconds, sum(cost * (rows.task IS NOT NULL)) AS spent"
_HAS_CELLS = "SELECT 1 FROM sqlite_master WHERE name = 'cells'"
_SUMS = f"""
  sum(status = 'pending') AS pending, sum(status = 'done') AS done,
  sum(status = 'failed') AS failed, sum(cost * (status = 'pending')) AS cost_left, {_SPENT}
"""
# What is left of a run that was killed does not count as running once another run has begun.
_RUNNING = """
  total(running AND status = 'pending' AND
    (SELECT outcome = 'running' FROM runs ORDER BY id DESC LIMIT 1)) AS running
"""
_CELL = ", ".join(f"cells.{name}" for name in _LABEL)
_BY_CELL = f"""
SELECT tasks.model AS place_of_model, {_CELL}, {_SUMS}, {_RUNNING}
FROM tasks {_WITH_ROWS} LEFT JOIN cells ON cells.task = tasks.id
WHERE in_spec GROUP BY tasks.model, {_CELL} ORDER BY tasks.model, min(place)
"""
_BY_MODEL = f"""
SELECT tasks.model AS place_of_model, NULL AS model, {_SUMS}, 0 AS running
FROM tasks {_WITH_ROWS} WHERE in_spec GROUP BY tasks.model ORDER BY tasks.model
"""


@dataclass(frozen=True)
class Counts:
    """Progress of a study, over the tasks of its spec that are known.

    Attributes:
        pending, done, failed: number of tasks.
        kept_aside: rows of earlier versions of the spec.
        seconds_left: estimate for the pending tasks; None before the first row.
    """

    pending: int
    done: int
    failed: int
    kept_aside: int
    seconds_left: float | None


@dataclass(frozen=True)
class CellProgress:
    """Progress of one cell.

    Attributes:
        model: index in the spec's `loads`.
        cell: its name; None for tasks of a store that an earlier version made.
        pending: tasks without a row that did not fail in this run.
        running: how many of them are in progress.
        done, failed: number of tasks.
        seconds_left: estimate for the pending tasks, from the cell's own rows if there are any,
            else from all; None before the first row.
    """

    model: int
    cell: CellLabel | None
    pending: int
    running: int = 0
    done: int = 0
    failed: int = 0
    seconds_left: float | None = None

    @property
    def total(self) -> int:
        """Number of tasks."""
        return self.pending + self.done + self.failed


def cells_of(select: Select) -> list[CellProgress]:
    """Count the tasks of each cell, in the spec's order.

    Args:
        select: queries the store.
    """
    rate = _rate(select(f"SELECT {_SPENT} FROM tasks {_WITH_ROWS}")[0])
    workers = _workers(select)
    query = _BY_CELL if select(_HAS_CELLS) else _BY_MODEL
    return [
        CellProgress(
            model=one["place_of_model"],
            cell=None if one["model"] is None else CellLabel(*(one[name] for name in _LABEL)),
            pending=one["pending"],
            running=int(one["running"]),
            done=one["done"],
            failed=one["failed"],
            seconds_left=_left(one, rate, workers),
        )
        for one in select(query)
    ]


def counts_of(select: Select) -> Counts:
    """Count the tasks of the spec by status, and estimate the time left.

    Args:
        select: queries the store.
    """
    cells = cells_of(select)
    aside = "SELECT count(*) FROM rows JOIN tasks ON id = task WHERE NOT in_spec"
    return Counts(
        pending=sum(cell.pending for cell in cells),
        done=sum(cell.done for cell in cells),
        failed=sum(cell.failed for cell in cells),
        kept_aside=select(aside)[0][0],
        seconds_left=sum_known(cell.seconds_left for cell in cells),
    )


def sum_known(seconds: Iterable[float | None]) -> float | None:
    """Sum the estimates that there are; None if there are none."""
    known = [one for one in seconds if one is not None]
    return sum(known) if known else None


def with_running(
    cells: Iterable[CellProgress], running: Iterable[tuple[int, CellLabel]]
) -> list[CellProgress]:
    """Count the tasks in progress into their cells.

    Args:
        cells: the cells.
        running: model and cell of each task in progress.
    """
    count = Counter[tuple[int, CellLabel | None]](running)
    return [replace(c, running=min(c.pending, count[c.model, c.cell])) for c in cells]


def labels_of(tasks: Sequence[PlannedTask]) -> list[tuple[Any, ...]]:
    """Return the values of the table `cells` but the last, whether they are running."""
    return [(task.id, *(getattr(task.cell, name) for name in _LABEL)) for task in tasks]


def _rate(sums: sqlite3.Row) -> float | None:
    """Return seconds per token-step of budget; None without rows."""
    known = sums["spent"] and sums["seconds"] is not None
    return sums["seconds"] / sums["spent"] if known else None


def _left(cell: sqlite3.Row, rate: float | None, workers: int) -> float | None:
    own = _rate(cell)
    chosen = rate if own is None else own
    return None if chosen is None else chosen * cell["cost_left"] / workers


def _workers(select: Select) -> int:
    """Return the number of workers of the last run; 1 for runs that did not record it."""
    for last in select("SELECT settings FROM runs ORDER BY id DESC LIMIT 1"):
        return int(json.loads(last["settings"]).get("workers", {}).get("count", 1))
    return 1
