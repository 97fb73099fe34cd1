"""Define the data of a report, and combine several studies into one table."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.errors import UsageError
from memcram.study.results import ResultRow, TokenRecord, column_types
from memcram.study.runfile import Progress, progress_of

# What keeps measurements of one model apart; named in a label only where it differs.
_APART = ("recipe", "layout", "dtype", "revision", "fingerprint")
_Named = tuple[str, str, str]  # kind, model and name of a recipe


@dataclass(frozen=True)
class StudyPart:
    """The data of one study.

    Attributes:
        name: of the study.
        rows: the results table, columns of `ResultRow`.
        planned: tasks of the whole grid; `failed` of them ended in an error.
        settings: all settings, as plain JSON values.
        recipes: by task, the settings of its recipe when the row was measured, to detect different
            recipes with the same name; missing for rows that did not record them.
        runs: by task, the number of the run that measured it.
    """

    name: str
    rows: DataFrame
    planned: int
    failed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipes: Mapping[str, Any] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """All data of a report.

    Attributes:
        rows: of all studies, with a column `label`: the model, and settings in which rows differ;
            `budget_ended`: whether the budget ended the text; and `budget_token_steps`: that
            budget. The last two are None where the recipe's settings are not known.
        tokens: the token record of a row, by its task.
        pieces: (row's task, ids) → the text of each token.
        studies: the parts, for their settings and progress.
        exported: progress of the tasks that were read from a CSV, and have no token record.
        coders: bytes of texts under each coder, see `memcram.report.coders`.
    """

    rows: DataFrame
    tokens: Callable[[str], TokenRecord]
    pieces: Callable[[str, Sequence[int]], list[str]]
    studies: tuple[StudyPart, ...]
    exported: Mapping[str, Progress | None] = field(default_factory=dict)
    coders: DataFrame = field(default_factory=DataFrame)

    @property
    def recorded(self) -> DataFrame:
        """The rows that have a token record."""
        return self.rows[~self.rows["task"].isin(list(self.exported))]

    def progress(self, row: Mapping[str, Any]) -> Progress | None:
        """Progress of a row's optimisation; None where it is not known."""
        task = str(row["task"])
        if task in self.exported:
            return self.exported[task]
        return progress_of(self.tokens(task), int(row["steps"]), int(row["token_steps"]))

    @property
    def unfinished(self) -> list[StudyPart]:
        """Studies with tasks that have no row yet."""
        return [part for part in self.studies if len(part.rows) < part.planned]


def results_table(rows: Sequence[ResultRow]) -> DataFrame:
    """Make the results table of rows: one column per field, in the order of `ResultRow`."""
    return DataFrame([asdict(row) for row in rows], columns=list(column_types()))


def as_dicts(table: DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def joined(frames: Sequence[DataFrame], columns: Sequence[str]) -> DataFrame:
    """The rows of several tables; a table without rows where there are none."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else DataFrame(columns=list(columns))


def read_results(path: str | Path) -> DataFrame:
    """Read the results table from a CSV written by `memcram study export`.

    Plain `pandas.read_csv` takes a source called `NA` or `null` for a missing value. Here a cell is
    missing only where it is empty and its column may be empty.
    """
    types = column_types()
    empty = {name: [""] for name, (_, optional) in types.items() if optional}
    texts = {name: str for name, (kind, _) in types.items() if kind is str}
    return pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)


def combine(
    studies: Sequence[StudyPart],
    tokens: Callable[[str], TokenRecord],
    pieces: Callable[[str, Sequence[int]], list[str]],
    exported: Mapping[str, Progress | None] | None = None,
) -> ReportData:
    """Combine several studies into one table; a task in two of them counts once.

    Recipes with the same name but different settings are renamed `NAME [STUDY]`, and
    `NAME [STUDY, run N]` if they differ within a study. Settings that were not recorded count as
    different from those of any other study, and from recorded ones.

    Raises:
        UsageError: no study holds a row, or a column is missing.
    """
    meanings = _meanings(studies)
    frames = []
    for part in studies:
        missing = [name for name in column_types() if name not in part.rows.columns]
        if missing:
            problem = f"study {part.name!r} lacks the columns {', '.join(missing)}"
            raise UsageError(problem, argument="stores")
        frame = part.rows.copy()
        if len(frame):
            frame["recipe"] = _recipe_names(part, meanings)
            frame["budget_ended"] = _budget_ended(part)
            frame["budget_token_steps"] = _budgets(part)
        frames.append(frame)
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        names = ", ".join(repr(part.name) for part in studies)
        raise UsageError(f"no rows in {names or 'any study'}; run it first", argument="stores")
    rows = pd.concat(filled, ignore_index=True).drop_duplicates("task", ignore_index=True)
    return ReportData(with_label(rows), tokens, pieces, tuple(studies), exported or {})


def _budget_ended(part: StudyPart) -> list[bool | None]:
    """Whether the budget ended each row's text, so that its horizon is a lower bound.

    None where the recipe's settings were not recorded.
    """
    return [
        False
        if row["censored"]
        else _is_spent(
            part.recipes.get(row["task"], {}).get("strategy", {}), row["steps"], row["token_steps"]
        )
        for row in as_dicts(part.rows)
    ]


def _budgets(part: StudyPart) -> list[int | None]:
    """Budget in token-steps of each row's text; None where there is none or it is not known."""
    strategies = [part.recipes.get(str(task), {}).get("strategy", {}) for task in part.rows["task"]]
    return [strategy.get("token_steps") for strategy in strategies]


def _is_spent(strategy: Mapping[str, Any], steps: int, token_steps: int) -> bool | None:
    """Whether a text that took this many steps used up the budget; None if that is unknown."""
    if strategy.get("token_steps", token_steps + 1) <= token_steps:
        return True
    inner = strategy.get("strategy", strategy)  # a budget in token-steps wraps a strategy
    return bool(steps >= inner["steps"]) if "steps" in inner else None


def _meaning(part: StudyPart, task: str) -> str:
    """Settings that a recipe's name stands for in a row, or that none were recorded."""
    if task in part.recipes:
        return json.dumps(part.recipes[task], sort_keys=True)
    return f"not recorded in {part.name}"


def _meanings(studies: Sequence[StudyPart]) -> dict[_Named, set[str]]:
    """The meanings of each recipe name, by kind, model and name.

    A recipe measures a horizon by another strategy than a capacity; that is no clash. Neither are
    different settings for different models, whose labels differ anyway.
    """
    found: dict[_Named, set[str]] = {}
    for part in studies:
        for key, task in _recipes_of(part):
            found.setdefault(key, set()).add(_meaning(part, task))
    return found


def _recipe_names(part: StudyPart, meanings: Mapping[_Named, set[str]]) -> list[str]:
    """The recipe of each row of a study, under a name that has one meaning in all studies."""
    first_run: dict[_Named, dict[str, int]] = {}  # of each meaning in this study
    for key, task in _recipes_of(part):
        here = first_run.setdefault(key, {})
        meaning, run = _meaning(part, task), part.runs.get(task, 0)
        here[meaning] = min(run, here.get(meaning, run))
    names = []
    for key, task in _recipes_of(part):
        here, name = first_run[key], key[-1]
        where = f"{part.name}, run {here[_meaning(part, task)]}" if len(here) > 1 else part.name
        names.append(f"{name} [{where}]" if len(meanings[key]) > 1 else name)
    return names


def _recipes_of(part: StudyPart) -> list[tuple[_Named, str]]:
    """Kind, model and recipe of each row, and its task."""
    columns = [part.rows[name].astype(str) for name in ("kind", "model", "recipe")]
    return list(zip(zip(*columns, strict=True), part.rows["task"].astype(str), strict=True))


def published_only() -> ReportData:
    """Return data without any study, for a report of the published values."""

    def nothing(*_: Any) -> Any:
        raise KeyError("a report without rows has no tokens")

    rows = DataFrame(columns=[*column_types(), "label"])
    return ReportData(rows, tokens=nothing, pieces=nothing, studies=())


def with_label(rows: DataFrame) -> DataFrame:
    """Add the column `label` to rows: the shortest label that distinguishes their settings."""
    rows = rows.copy()
    labels = rows["model"].map(short_models(rows["model"].unique())).astype(str)
    # A model cut to its first layers has its own fingerprint, and a prefix its own layout, which
    # are no other settings.
    own = rows["kind"].isin(["depth", "prefix"])
    loaded = rows["model"] + rows["condition"].fillna("").where(own, "")
    for column in _APART:
        values = rows[column].fillna("").astype(str)
        of = loaded if column in ("fingerprint", "layout") else rows["model"]
        varies = values.groupby(of).transform("nunique") > 1
        # A revision that differs makes the fingerprint differ too: said once.
        shown = values.str[:8] if column == "fingerprint" else values
        if column == "fingerprint":
            revisions = rows["revision"].fillna("").groupby(rows["model"]).transform("nunique")
            varies &= revisions <= 1
        labels = labels.where(~varies, labels + " · " + shown)
    # A single recipe is not named; several are named everywhere.
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


def short_model(name: str, parts: int = 1) -> str:
    """The last parts of a hub id or folder."""
    whole = name.replace("\\", "/").rstrip("/").split("/")
    return "/".join(whole[-parts:]) or name


def short_models(names: Iterable[str]) -> dict[str, str]:
    """Shorten hub ids and folders to the part after the last slash.

    If two of them would get the same name, they keep as many parts as needed to differ.

    >>> short_models(["org/pocket", "runs/a/final", "runs/b/final"])
    {'org/pocket': 'pocket', 'runs/a/final': 'a/final', 'runs/b/final': 'b/final'}
    """
    short = {name: short_model(name) for name in names}
    longest = max((name.count("/") + name.count("\\") for name in short), default=0)
    for parts in range(2, longest + 2):
        counts = Counter(short.values())
        short = {n: one if counts[one] == 1 else short_model(n, parts) for n, one in short.items()}
    counts = Counter(short.values())
    return {name: one if counts[one] == 1 else name for name, one in short.items()}
