"""Read exported rows for a report: a CSV, and the run file next to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame

from memcram.errors import UsageError
from memcram.report.data import StudyPart, as_dicts, read_results
from memcram.study.grid import deciding
from memcram.study.runfile import Progress, read_run_file, run_file_of


def read_export(table: Path) -> tuple[list[StudyPart], dict[str, Progress | None]]:
    """Read the studies of a CSV, and the progress of its texts where a run file has it.

    Without a run file, settings are unknown and the study counts as finished.

    Args:
        table: written by `memcram study export`.

    Raises:
        UsageError: the CSV or its run file can't be read.
    """
    try:
        rows = read_results(table)
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(table)!r} can't be read as rows ({error})") from error
    if not {"task", "study", "recipe"} <= set(rows.columns):
        raise UsageError(f"{str(table)!r} was not written by `memcram study export`")
    path = run_file_of(table)
    run_file = read_run_file(path) if path.is_file() else {"studies": [], "texts": {}}
    described = {one["name"]: one for one in run_file["studies"]}
    texts = run_file["texts"]
    parts = [
        _part(str(name), some.reset_index(drop=True), described.get(str(name)), texts)
        for name, some in rows.groupby("study", sort=False)
    ]
    return parts, {str(task): _progress(texts.get(str(task), {})) for task in rows["task"]}


def _part(
    name: str, rows: DataFrame, study: Mapping[str, Any] | None, texts: Mapping[str, Any]
) -> StudyPart:
    if study is None:
        return StudyPart(name, rows, len(rows), settings={"runs": "not recorded"})
    recipes = {run["id"]: run["settings"].get("recipes", {}) for run in study["runs"]}
    runs = {str(task): texts[task]["run"] for task in rows["task"] if task in texts}
    return StudyPart(
        name=name,
        rows=rows,
        planned=study["planned"],
        failed=study["failed"],
        settings={"study.toml": study["spec"], "runs": study["runs"]},
        recipes={
            row["task"]: deciding(recipes[runs[row["task"]]][row["recipe"]])
            for row in as_dicts(rows)
            if row["recipe"] in recipes.get(runs.get(row["task"], 0), {})
        },
        runs=runs,
    )


def _progress(text: Mapping[str, Any]) -> Progress | None:
    if "progress" not in text:
        return None
    points = np.array(text["progress"], dtype=np.float64).reshape(-1, 2)
    return Progress(points, bool(text.get("estimated")))
