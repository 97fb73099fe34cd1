"""Read the stores of studies for a report; the only module of the report that opens them."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from memcram.errors import ModelError, UsageError
from memcram.models import load_tokenizer
from memcram.models.sources import is_here, nearest_model
from memcram.report.data import ReportData, StudyPart, combine, results_table
from memcram.report.explain import TokenView, token_pieces, view_of_record
from memcram.report.exports import read_export
from memcram.study.grid import deciding
from memcram.study.results import TokenRecord
from memcram.study.runfile import Progress
from memcram.study.store import Store

_NAMED = 5  # ids that an error message shows


def load_stores(places: Sequence[Path]) -> ReportData:
    """Load all rows of stores and of CSV files that `memcram study export` wrote.

    Args:
        places: folders of stores, or files with the suffix `.csv`.

    Raises:
        UsageError: one of them can't be read, or none of them holds a row.
    """
    parts: list[tuple[StudyPart, Path]] = []
    holders: dict[str, Store] = {}
    models: dict[str, tuple[str, str | None]] = {}
    exported: dict[str, Progress | None] = {}
    for place in places:
        if place.suffix == ".csv" and not place.is_dir():
            some, progress = read_export(place)
            parts += [(part, place) for part in some]
            exported = progress | exported
            continue
        store = Store(place)
        parts.append((_part(store), place))
        rows, folder = store.rows(), store.spec_folder
        found = {name: nearest_model(folder, name) for name in {row.model for row in rows}}
        for row in rows:
            holders.setdefault(row.task, store)
            models.setdefault(row.task, (found[row.model], row.revision))
    text_of = Pieces()

    def tokens(task: str) -> TokenRecord:
        return holders[task].record(task)

    def pieces(task: str, ids: Sequence[int]) -> list[str]:
        return text_of(*models[task], ids)

    only_exported = {task: one for task, one in exported.items() if task not in holders}
    return combine(_told_apart(parts), tokens, pieces, only_exported)


def _told_apart(parts: Sequence[tuple[StudyPart, Path]]) -> list[StudyPart]:
    """Add the folder to the names of studies that share a name."""
    names = [part.name for part, _ in parts]
    return [
        replace(part, name=f"{part.name}, {place}") if names.count(part.name) > 1 else part
        for part, place in parts
    ]


def _part(store: Store) -> StudyPart:
    counts = store.counts()
    # The rows are enough for a report; the spec is only shown.
    spec = store.spec_path.read_text("utf-8", "replace") if store.spec_path.is_file() else "missing"
    runs = store.runs()
    settings = {"study.toml": spec, "runs": [_told(run) for run in runs]}
    recipes = {task: deciding(found) for task, found in store.recipes().items()}
    rows = results_table(store.rows())
    return StudyPart(
        name=str(rows["study"].iloc[0]) if len(rows) else store.folder.stem,
        rows=rows,
        planned=counts.done + counts.pending + counts.failed,
        failed=counts.failed,
        settings=settings,
        recipes=recipes,
        runs=store.measured_by(),
    )


def _told(run: dict[str, Any]) -> dict[str, Any]:
    """Describe a run without its spec, which the study shows once."""
    settings = {"recipes": "not recorded"} | run["settings"]
    return run | {"settings": {k: v for k, v in settings.items() if k != "spec"}}


class Pieces:
    """Text of tokens by the model's own tokenizer, or their ids if it is not available.

    A model without a revision was a folder: if that is missing, the hub is not queried.
    """

    def __init__(self) -> None:
        self._detokenize: dict[tuple[str, str | None], Callable[[Sequence[int]], str] | None] = {}

    def __call__(self, model: str, revision: str | None, ids: Sequence[int]) -> list[str]:
        """The text of each token."""
        key = model, revision
        if key not in self._detokenize:
            self._detokenize[key] = None
            if revision is not None or is_here(model):
                with contextlib.suppress(ModelError):
                    self._detokenize[key] = load_tokenizer(model, revision)
        detokenize = self._detokenize[key]
        if detokenize is None:
            return [f"#{token} " for token in ids]
        return token_pieces(detokenize, ids)


def view_of_text(folder: Path, text_id: str | None) -> TokenView:
    """One text of a store: the row of that task or text id, the one with most tokens of several.

    Raises:
        UsageError: no such text; some that there are, are named.
    """
    data = load_stores([folder])
    rows = data.rows
    chosen = rows[(rows["task"] == text_id) | (rows["text_id"] == text_id)]
    if not len(chosen):
        known = list(dict.fromkeys(rows["text_id"]))
        more = f" and {len(known) - _NAMED:,} more" if len(known) > _NAMED else ""
        allowed = ", ".join(known[:_NAMED]) + more
        raise UsageError(argument="text_id", got=text_id, allowed=allowed)
    row = chosen.sort_values("tokens", kind="stable").iloc[-1]
    record = data.tokens(str(row["task"]))
    pieces = data.pieces(str(row["task"]), record.ids.tolist())
    return view_of_record({str(name): row[name] for name in row.index}, record, pieces)
