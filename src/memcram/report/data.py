"""What a report is made of, and how several studies become one table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.errors import UsageError
from memcram.results import TokenRecord, column_types

# What keeps measurements of one model apart; named in a label only where it differs.
_APART = ("recipe", "layout", "dtype", "revision", "fingerprint")


@dataclass(frozen=True)
class StudyPart:
    """What one store gives to a report.

    Attributes:
        name: of the study.
        rows: the results table, columns of `ResultRow`.
        planned: tasks of the whole grid; `failed` of them ended in an error.
        settings: everything that was set, as plain JSON values.
        recipes: settings of each recipe by its name, so that namesakes are noticed.
    """

    name: str
    rows: DataFrame
    planned: int
    failed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything a report is a function of.

    Attributes:
        rows: of all studies, with a column `label`: model, and what keeps its rows apart.
        tokens: the token record of a row, by its task.
        pieces: (row's model, ids) → the text of each token.
        studies: the parts, for their settings and how far each has come.
    """

    rows: DataFrame
    tokens: Callable[[str], TokenRecord]
    pieces: Callable[[str, Sequence[int]], list[str]]
    studies: tuple[StudyPart, ...]

    @property
    def unfinished(self) -> list[StudyPart]:
        """Studies with tasks that have no row yet."""
        return [part for part in self.studies if len(part.rows) < part.planned]


def combine(
    studies: Sequence[StudyPart],
    tokens: Callable[[str], TokenRecord],
    pieces: Callable[[str, Sequence[int]], list[str]],
) -> ReportData:
    """One table of several studies; a task that two of them hold counts once.

    Recipes of one name but other settings are renamed `NAME [STUDY]`.

    Raises:
        UsageError: no study holds a row, or a column is missing.
    """
    clashing = _clashing(studies)
    frames = []
    for part in studies:
        missing = [name for name in column_types() if name not in part.rows.columns]
        if missing:
            raise UsageError(f"STORE: study {part.name!r} lacks the columns {', '.join(missing)}")
        frame = part.rows.copy()
        frame["recipe"] = [
            f"{name} [{part.name}]" if (kind, name) in clashing else name
            for kind, name in zip(frame["kind"], frame["recipe"], strict=True)
        ]
        frames.append(frame)
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        names = ", ".join(repr(part.name) for part in studies)
        raise UsageError(f"STORE: no rows in {names or 'any study'}; run `memcram study run` first")
    rows = pd.concat(filled, ignore_index=True).drop_duplicates("task", ignore_index=True)
    return ReportData(with_label(rows), tokens, pieces, tuple(studies))


def _clashing(studies: Sequence[StudyPart]) -> set[tuple[str, str]]:
    """Kinds and names of recipes that have other settings in one study than in another.

    A recipe measures a horizon by another strategy than a capacity; that is no clash.
    """
    settings: dict[tuple[str, str], list[Any]] = {}
    for part in studies:
        for kind in part.rows["kind"].unique():
            for name, content in part.recipes.items():
                known = settings.setdefault((str(kind), name), [])
                if content not in known:
                    known.append(content)
    return {key for key, known in settings.items() if len(known) > 1}


def published_only() -> ReportData:
    """No study at all: a report of the published values."""

    def nothing(*_: Any) -> Any:
        raise KeyError("a report without rows has no tokens")

    rows = DataFrame(columns=[*column_types(), "label"])
    return ReportData(rows, tokens=nothing, pieces=nothing, studies=())


def with_label(rows: DataFrame) -> DataFrame:
    """The rows with the column `label`: the shortest label that keeps their settings apart."""
    rows = rows.copy()
    labels = rows["model"].map(short_model).astype(str)
    # A model cut to its first layers has a fingerprint of its own, and that is no other setting.
    loaded = rows["model"] + rows["condition"].fillna("").where(rows["kind"] == "depth", "")
    for column in _APART:
        values = rows[column].fillna("").astype(str)
        of = loaded if column == "fingerprint" else rows["model"]
        varies = values.groupby(of).transform("nunique") > 1
        # A revision that differs makes the fingerprint differ too: said once.
        shown = values.str[:8] if column == "fingerprint" else values
        if column == "fingerprint":
            revisions = rows["revision"].fillna("").groupby(rows["model"]).transform("nunique")
            varies &= revisions <= 1
        labels = labels.where(~varies, labels + " · " + shown)
    # One recipe throughout goes without saying; two are told apart everywhere.
    if rows["recipe"].nunique() > 1:
        labels = pd.Series(
            [
                label if recipe in label.split(" · ") else f"{label} · {recipe}"
                for label, recipe in zip(labels, rows["recipe"], strict=True)
            ],
            index=rows.index,
        )
    rows["label"] = labels
    return rows


def short_model(name: str) -> str:
    """A hub id or folder without what stands before its last slash."""
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or name
