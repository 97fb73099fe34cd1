"""Write and read run files: what a table of rows does not say about how it was measured.

A run file is JSON with the specs, runs (settings of recipes, versions) and progress of the rows in
the CSV next to it. Both together are all that a report needs, without the vectors.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from memcram.errors import UsageError
from memcram.study.results import ResultRow, TokenRecord
from memcram.study.store import Store

_VERSION = 1
_POINTS = 48  # of a text's progress in the file
_AHEAD = 6  # positions of a text besides the tokens it holds: [mem] and lookahead


@dataclass(frozen=True)
class Progress:
    """Tokens held during the optimisation of one text.

    Attributes:
        points: (points, 2) token-steps and the most tokens held so far, rising.
        estimated: the token-steps were not recorded, but estimated from the steps.
    """

    points: NDArray[np.float64]
    estimated: bool


def progress_of(record: TokenRecord, steps: int, token_steps: int) -> Progress:
    """Return the progress of one text.

    A record of an older store has only a subsample of the steps, without token-steps. These are
    then the text's total, divided in proportion to the positions of each step, a few more than the
    tokens held; and the tokens held are too few between the points, but not at the end.

    Args:
        record: of the text.
        steps, token_steps: of its row.
    """
    if record.rises is not None:
        return Progress(record.rises[:, 1:].double().numpy(), estimated=False)
    curve = record.curve.double().numpy()
    if not len(curve):
        return Progress(np.empty((0, 2)), estimated=True)
    held = np.maximum.accumulate(curve[:, 1])
    spent = np.append(0.0, np.cumsum((held[:-1] + _AHEAD) * np.diff(curve[:, 0])))
    whole = spent[-1] + (held[-1] + _AHEAD) * max(0.0, steps - curve[-1, 0])
    scaled = spent * (token_steps / whole if whole else 1.0)
    points = np.column_stack([scaled, held])
    end = [token_steps, max(held[-1], int((record.learned_step >= 0).sum()))]
    return Progress(np.vstack([points, end]), estimated=True)


def run_file_bytes(stores: Sequence[Store]) -> bytes:
    """Make the run file of stores: one line per text, so that changes can be read.

    Raises:
        UsageError: two studies have the same name, by which a run file tells them apart.
    """
    studies = [_study(store) for store in stores]
    for name, count in Counter(study["name"] for study in studies).items():
        if count > 1:
            problem = f"{count} studies are called {name!r}; rename all but one in their specs"
            raise UsageError(problem, argument="run_file")
    tasks: dict[str, str] = {}
    for store in stores:
        rows = store.rows()
        of = store.measured_by()  # after the rows, as a run may add some meanwhile
        for row in rows:
            if row.task not in tasks:
                tasks[row.task] = json.dumps(_task(store, row) | {"run": of[row.task]})
    head = json.dumps({"version": _VERSION, "studies": studies}, indent=1)[:-2]
    lines = ",\n".join(f"  {json.dumps(task)}: {words}" for task, words in tasks.items())
    return f'{head},\n "texts": {{\n{lines}\n }}\n}}\n'.encode()


def _study(store: Store) -> dict[str, Any]:
    """Describe one study; its text is not repeated by each of its runs."""
    counts, runs = store.counts(), store.runs()
    spec = store.spec_path.read_text("utf-8", "replace") if store.spec_path.is_file() else "missing"
    for run in runs:
        run.pop("pid", None)
        run["settings"].pop("spec", None)
    return {
        "name": next((row.study for row in store.rows()), store.folder.stem),
        "planned": counts.done + counts.pending + counts.failed,
        "failed": counts.failed,
        "spec": spec,
        "runs": runs,
    }


def _task(store: Store, row: ResultRow) -> dict[str, Any]:
    if not row.outcome:  # nothing was optimised
        return {}
    found = progress_of(store.record(row.task), row.steps, row.token_steps)
    points = found.points
    if len(points) > _POINTS:
        points = points[np.linspace(0, len(points) - 1, _POINTS).astype(int)]
    whole = [[round(spent), round(held)] for spent, held in points.tolist()]
    return {"progress": whole, "estimated": found.estimated}


def run_file_of(table: Path) -> Path:
    """Path of the run file next to a CSV of rows."""
    return table.with_suffix(".run.json")


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Settings(_Part):
    recipes: dict[str, dict[str, Any]] = {}


class _Run(_Part):
    id: int
    settings: _Settings


class _Study(_Part):
    name: str
    planned: int
    failed: int
    spec: str
    runs: list[_Run]


class _Text(_Part):
    run: int | None
    progress: list[tuple[float, float]] = []
    estimated: bool = False


class _RunFile(_Part):
    studies: list[_Study]
    texts: dict[str, _Text]


def read_run_file(path: Path) -> Mapping[str, Any]:
    """Read a run file.

    Raises:
        UsageError: it can't be read, lacks a part, or was written by a newer memcram.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version = int(found["version"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} can't be read as a run file ({error})") from error
    if version > _VERSION:
        raise UsageError(
            f"{str(path)!r} has version {version}, but this memcram reads up to {_VERSION}; "
            "install a newer version"
        )
    try:
        return _RunFile.model_validate(found).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(f"{str(path)!r} can't be read as a run file ({problem})") from error
