"""A study on disk: the folder `NAME.study/` with the spec, a SQLite file of rows, and vectors.

A row is committed only after its vectors are flushed to disk, so every row is complete no matter
how a run ends. Vectors without a row are overwritten.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memcram.errors import UsageError
from memcram.files import is_file, is_folder, is_locked, locked, new_folder, write_atomically
from memcram.study.planned import PlannedTask
from memcram.study.progress import CellProgress, Counts, cells_of, counts_of, labels_of
from memcram.study.records import damaged, read_record, record_bytes
from memcram.study.results import ResultRow, TokenRecord, column_types
from memcram.study.schema import APPLICATION_ID, CELLS, SCHEMA, VERSION, row_from, row_to

_TABLES = ("meta", "tasks", "rows", "runs")
_SPEC, _DATABASE, _VECTORS, _LOCK = "study.toml", "store.sqlite", "vectors", "lock"


class Store:
    """An open store; one process writes at a time (`lock`), any number read.

    Args:
        folder: `NAME.study`.

    Raises:
        UsageError: it is not a store, was made by a newer memcram, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _check(folder)
        try:
            self._db = sqlite3.connect(folder / _DATABASE, timeout=30, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._check_version()
            self._db.execute("PRAGMA synchronous = EXTRA")
        except sqlite3.Error as error:
            raise _unreadable(folder, error) from error

    @classmethod
    def create(cls, folder: Path, spec: str, spec_folder: Path) -> "Store":
        """Create a store, completely or not at all.

        Args:
            folder: must not exist.
            spec: the TOML as given.
            spec_folder: where its relative paths start.

        Raises:
            UsageError: the folder exists or can't be created.
        """
        try:
            with new_folder(folder, argument=None) as place:
                (place / _VECTORS).mkdir()
                write_atomically(place / _SPEC, spec.encode())
                _make_database(place / _DATABASE, spec_folder)
        except sqlite3.Error as error:
            raise UsageError(f"{str(folder)!r} can't be created ({error})") from error
        return cls(folder)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Context manager holding the write lock; refused while another process holds it."""
        return locked(self.folder / _LOCK, repr(str(self.folder)))

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # -- the spec -------------------------------------------------------------------------------

    @property
    def spec_path(self) -> Path:
        """Path of the spec as it was last run."""
        return self.folder / _SPEC

    @property
    def spec_folder(self) -> Path:
        """Folder where the spec's relative paths start."""
        return Path(self._meta("spec_folder") or ".")

    def set_spec(self, text: str, folder: Path, recipes: Mapping[str, Any]) -> None:
        """Store the spec; if it has changed, no task belongs to it until it is planned again.

        Args:
            text: the spec.
            folder: where its relative paths start.
            recipes: settings of its recipes by name, which another version may have changed.
        """
        if self._meta("spec_folder") != str(folder):
            with self._transaction():
                self._set_meta("spec_folder", str(folder))
        same = self.spec_path.is_file() and self.spec_path.read_bytes() == text.encode()
        before = [run["settings"]["recipes"] for run in self.runs() if "recipes" in run["settings"]]
        if same and before[-1:] in ([], [json.loads(json.dumps(recipes))]):
            return
        with self._transaction():
            self._db.execute("UPDATE tasks SET in_spec = 0")
            self._db.execute("DELETE FROM meta WHERE key LIKE 'planned.%'")
        write_atomically(self.spec_path, text.encode())

    # -- tasks ----------------------------------------------------------------------------------

    def plan(self, study: str, model: int, tasks: Sequence[PlannedTask]) -> None:
        """Record the tasks of one model of the spec; those that are done stay done.

        Rows get the current names of the study and of its sources, which are not part of a task.
        """
        with self._transaction():
            self._db.execute(CELLS)
            self._db.execute("UPDATE tasks SET in_spec = 0 WHERE model = ?", (model,))
            self._db.executemany(
                "INSERT INTO tasks (id, model, place, in_spec, status, cost) "
                "VALUES (?, ?, ?, 1, 'pending', ?) ON CONFLICT (id) DO UPDATE SET "
                "model = excluded.model, place = excluded.place, in_spec = 1",
                [(task.id, model, place, task.cost) for place, task in enumerate(tasks)],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?, 0)", labels_of(tasks)
            )
            self._db.executemany(
                "UPDATE rows SET study = ?, source = ? WHERE task = ?",
                [(study, task.source, task.id) for task in tasks],
            )
            self._set_meta(f"planned.{model}", str(len(tasks)))

    def adopt(self, rows: Sequence[ResultRow]) -> None:
        """Record the tasks of rows from another store, in their order; `add` stores the rows."""
        with self._transaction():
            self._db.executemany(
                "INSERT INTO tasks (id, model, place, in_spec, status, cost) "
                "VALUES (?, 0, ?, 1, 'pending', ?)",
                [(row.task, place, row.token_steps) for place, row in enumerate(rows)],
            )

    def is_done(self, model: int) -> bool:
        """Return whether a model of the spec was planned and all its tasks are done."""
        left = "SELECT count(*) FROM tasks WHERE model = ? AND in_spec AND status != 'done'"
        return self.planned(model) is not None and self._select(left, (model,))[0][0] == 0

    def planned(self, model: int) -> int | None:
        """Return the number of tasks of a model; None before it was planned."""
        count = self._meta(f"planned.{model}")
        return None if count is None else int(count)

    def finished(self) -> set[str]:
        """Return the ids of all tasks that have a row."""
        return {one[0] for one in self._select("SELECT id FROM tasks WHERE status = 'done'")}

    def unfinished(self) -> set[str]:
        """Return the ids of the spec's tasks that have no row."""
        query = "SELECT id FROM tasks WHERE in_spec AND status != 'done'"
        return {one[0] for one in self._select(query)}

    def fail(self, task: str, reason: str, run: int) -> None:
        """Record why a task has no row."""
        with self._transaction():
            self._db.execute(
                "UPDATE tasks SET status = 'failed', reason = ?, run = ? WHERE id = ?",
                (reason, run, task),
            )

    def failures(self) -> list[tuple[str, str]]:
        """List id and reason of each failed task of the spec."""
        query = "SELECT id, reason FROM tasks WHERE status = 'failed' AND in_spec ORDER BY place"
        return [(one["id"], one["reason"]) for one in self._select(query)]

    def counts(self) -> Counts:
        """Count the tasks of the spec by status, and estimate the time left."""
        return counts_of(self._select)

    def cells(self) -> list[CellProgress]:
        """Count the tasks of each cell of the spec, in its order."""
        return cells_of(self._select)

    def set_running(self, tasks: Sequence[str], run: int) -> None:
        """Record which tasks are in progress, as a sign of life of a run."""
        with self._transaction():
            self._db.execute("UPDATE cells SET running = 0 WHERE running")
            running = [(task,) for task in tasks]
            self._db.executemany("UPDATE cells SET running = 1 WHERE task = ?", running)
            self._db.execute("UPDATE runs SET ended = ? WHERE id = ?", (_now(), run))

    # -- rows -----------------------------------------------------------------------------------

    def add(self, measured: Sequence[tuple[ResultRow, TokenRecord]], run: int) -> None:
        """Store rows and vectors: first each file of vectors, flushed and renamed, then the rows.

        At Ctrl-C rows may be passed again that are stored already; the run counts them once.

        Raises:
            UsageError: the disk is full; rows added before are unaffected.
        """
        for row, record in measured:
            write_atomically(self.vectors_path(row.task), record_bytes(record))
        holes = ", ".join("?" for _ in column_types())
        with self._transaction():
            new: list[ResultRow] = []
            for row, _ in measured:
                insert = f"INSERT OR IGNORE INTO rows VALUES ({holes})"
                new += [row] * self._db.execute(insert, row_to(row)).rowcount
                self._db.execute(
                    "UPDATE tasks SET status = 'done', reason = NULL, run = ? WHERE id = ?",
                    (run, row.task),
                )
            self._db.execute(
                "UPDATE runs SET ended = ?, texts = texts + ?, tokens = tokens + ?, "
                "token_steps = token_steps + ? WHERE id = ?",
                (
                    _now(),
                    len(new),
                    sum(row.tokens for row in new),
                    sum(row.token_steps for row in new),
                    run,
                ),
            )

    def rows(self) -> list[ResultRow]:
        """Return the rows of the spec's tasks, in the spec's order."""
        query = (
            "SELECT rows.* FROM rows JOIN tasks ON id = task WHERE in_spec "
            "ORDER BY tasks.model, place"
        )
        return [row_from(dict(one)) for one in self._select(query)]

    def vectors_path(self, task: str) -> Path:
        """Path of the token record of a task."""
        return self.folder / _VECTORS / f"{task}.safetensors"

    def record(self, task: str) -> TokenRecord:
        """Read the token record of a row.

        Raises:
            UsageError: the file is missing or damaged, or its vectors are not those of the row.
        """
        path = self.vectors_path(task)
        record = read_record(path)
        for row in self._select("SELECT vectors, width FROM rows WHERE task = ?", (task,)):
            wanted = (row["vectors"], row["width"])
            if tuple(record.mem.shape) != wanted:
                damaged(path, "mem", record.mem, f"{wanted}, as in its row")
        return record

    # -- runs -----------------------------------------------------------------------------------

    def begin_run(self, settings: Mapping[str, Any]) -> int:
        """Record that a run begins, with all its settings; return its number."""
        for left in (self.folder / _VECTORS).glob(".*.tmp"):  # of a run that was killed
            left.unlink(missing_ok=True)
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO runs (started, outcome, pid, settings) VALUES (?, 'running', ?, ?)",
                (_now(), os.getpid(), json.dumps(dict(settings), sort_keys=True)),
            )
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, outcome: str) -> None:
        """Record how a run ended: `done`, `interrupted` or `failed`."""
        with self._transaction():
            self._db.execute(
                "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, oldest first."""
        found = [dict(one) for one in self._select("SELECT * FROM runs ORDER BY id")]
        return [one | {"settings": json.loads(one["settings"])} for one in found]

    def last_run(self) -> tuple[str, str] | None:
        """Return the outcome of the last run, and when it last wrote; None before the first.

        A run that neither recorded its end nor holds the lock was `killed`.
        """
        query = "SELECT id, outcome, coalesce(ended, started) FROM runs ORDER BY id DESC LIMIT 1"
        found = [tuple(one) for one in self._select(query)]
        if found and found[0][1] == "running" and not is_locked(self.folder / _LOCK):
            again = [tuple(one) for one in self._select(query)]  # it may have ended just now
            if again[0][:2] == found[0][:2]:
                return "killed", again[0][2]
            found = again
        return found[0][1:] if found else None

    def measured_by(self) -> dict[str, int]:
        """Return the number of the run that measured each row, by task."""
        query = "SELECT task, run FROM rows JOIN tasks ON id = task"
        return {one["task"]: one["run"] for one in self._select(query)}

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each row's recipe when it was measured, by task.

        Rows of runs that did not record them (older stores) are left out.
        """
        recorded = {one["id"]: one["settings"].get("recipes", {}) for one in self.runs()}
        query = "SELECT task, recipe, run FROM rows JOIN tasks ON id = task"
        return {
            one["task"]: recorded[one["run"]][one["recipe"]]
            for one in self._select(query)
            if one["recipe"] in recorded.get(one["run"], {})
        }

    # -- inside ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit everything in the context, or nothing; flushed to disk at the end."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._rollback()
                raise
        except sqlite3.Error as error:
            raise UsageError(f"{str(self.folder)!r} could not be written ({error})") from error

    def _rollback(self) -> None:
        # SQLite may have rolled back by itself, as it does when the disk is full.
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    def _meta(self, key: str) -> str | None:
        found = self._select("SELECT value FROM meta WHERE key = ?", (key,))
        return str(found[0][0]) if found else None

    def _select(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return all rows of a query; a database may be damaged after an intact header."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _unreadable(self.folder, error) from error

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _check_version(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        made_by = self._db.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise UsageError(f"{str(self.folder)!r} is not a memcram store")
        if made_by > VERSION:
            raise UsageError(
                f"{str(self.folder)!r} has version {made_by}, but this memcram reads up to "
                f"{VERSION}; install a newer version"
            )
        there = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        if lost := [name for name in _TABLES if name not in there]:
            raise UsageError(f"{str(self.folder)!r} is damaged: no table {', '.join(lost)}")


def gather(stores: Sequence[Store]) -> list[ResultRow]:
    """Return the rows of several stores, in their order; a task in two of them counts once."""
    rows: dict[str, ResultRow] = {}
    for store in stores:
        for row in store.rows():
            rows.setdefault(row.task, row)
    return list(rows.values())


def _unreadable(folder: Path, error: sqlite3.Error) -> UsageError:
    return UsageError(f"{str(folder)!r} can't be read ({error})")


def _check(folder: Path) -> None:
    """Refuse a missing or empty database, which SQLite would create, and other folders."""
    if not is_folder(folder):
        what = "is not a folder" if is_file(folder) else "does not exist"
        raise UsageError(f"{str(folder)!r} {what}; name a folder made by `memcram study run`")
    database = folder / _DATABASE
    if not database.is_file():
        raise UsageError(f"{str(folder)!r} is not a memcram store: no {_DATABASE}")
    if database.stat().st_size == 0:
        raise UsageError(f"{str(folder)!r} is empty: its {_DATABASE} has no bytes")


def _make_database(path: Path, spec_folder: Path) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(SCHEMA)
        values = {"created": _now(), "memcram": version("memcram"), "spec_folder": str(spec_folder)}
        db.executemany("INSERT INTO meta VALUES (?, ?)", list(values.items()))
    finally:
        db.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
