"""A study on disk: `NAME.study/` with the spec, a SQLite file of rows, and vectors beside it.

A row is committed only after its vectors are safely on disk, so that whatever kills a run leaves
rows that are whole. What is there without a row is measured again.
"""

import contextlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memcram.errors import UsageError
from memcram.files import locked, write_atomically
from memcram.study.records import damaged, read_record, record_bytes
from memcram.study.results import ResultRow, TokenRecord, column_types
from memcram.study.schema import APPLICATION_ID, SCHEMA, VERSION, row_from, row_to

if TYPE_CHECKING:
    from memcram.study.grid import Task

SUFFIX = ".study"
_TABLES = ("meta", "tasks", "rows", "runs")
_SPEC, _DATABASE, _VECTORS, _LOCK = "study.toml", "store.sqlite", "vectors", "lock"


@dataclass(frozen=True)
class Counts:
    """Where a study stands, over the tasks of its spec that are known.

    Attributes:
        pending, done, failed: tasks.
        kept_aside: rows of earlier versions of the spec.
        seconds_left: for what is pending, at the speed so far; None before the first row.
    """

    pending: int
    done: int
    failed: int
    kept_aside: int
    seconds_left: float | None


class Store:
    """An open store; one process writes at a time (`lock`), any number read.

    Args:
        folder: `NAME.study`.

    Raises:
        UsageError: it is no store, was made by a newer memcram, or is damaged.
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
            raise UsageError(f"STORE: {str(folder)!r} can't be read ({error})") from error

    @classmethod
    def create(cls, folder: Path, spec: str, spec_folder: Path) -> "Store":
        """Make a store, whole or not at all.

        Args:
            folder: must not exist.
            spec: the TOML as given.
            spec_folder: where its relative paths start.

        Raises:
            UsageError: the folder is in the way or can't be made.
        """
        temporary: str | None = None
        try:
            temporary = tempfile.mkdtemp(
                prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent
            )
            place = Path(temporary)
            place.chmod(0o755)
            (place / _VECTORS).mkdir()
            write_atomically(place / _SPEC, spec.encode())
            _make_database(place / _DATABASE, spec_folder)
            place.replace(folder)
            temporary = None
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"STORE: {str(folder)!r} can't be made ({error})") from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """The right to write, as a context; refused while another process has it."""
        return locked(self.folder / _LOCK, f"STORE: {str(self.folder)!r}")

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    # -- the spec -------------------------------------------------------------------------------

    @property
    def spec_path(self) -> Path:
        """The spec as it was last run."""
        return self.folder / _SPEC

    @property
    def spec_folder(self) -> Path:
        """Where the spec's relative paths start."""
        return Path(self._meta("spec_folder") or ".")

    def set_spec(self, text: str, folder: Path) -> None:
        """Take a spec; if it is another one, no task counts until it is planned again."""
        if self._meta("spec_folder") != str(folder):
            with self._transaction():
                self._set_meta("spec_folder", str(folder))
        if self.spec_path.is_file() and self.spec_path.read_bytes() == text.encode():
            return
        with self._transaction():
            self._db.execute("UPDATE tasks SET in_spec = 0")
            self._db.execute("DELETE FROM meta WHERE key LIKE 'planned.%'")
        write_atomically(self.spec_path, text.encode())

    # -- tasks ----------------------------------------------------------------------------------

    def plan(self, study: str, model: int, tasks: "Sequence[Task]") -> None:
        """Note the tasks of one model of the spec; those that are done stay so.

        Names of the study and of its sources decide no task: rows take the names they have now.
        """
        with self._transaction():
            self._db.execute("UPDATE tasks SET in_spec = 0 WHERE model = ?", (model,))
            self._db.executemany(
                "INSERT INTO tasks (id, model, place, in_spec, status, cost) "
                "VALUES (?, ?, ?, 1, 'pending', ?) ON CONFLICT (id) DO UPDATE SET "
                "model = excluded.model, place = excluded.place, in_spec = 1",
                [(task.id, model, place, task.cost) for place, task in enumerate(tasks)],
            )
            self._db.executemany(
                "UPDATE rows SET study = ?, source = ? WHERE task = ?",
                [(study, task.source, task.id) for task in tasks],
            )
            self._set_meta(f"planned.{model}", str(len(tasks)))

    def is_done(self, model: int) -> bool:
        """Whether a model of the spec was planned and nothing of it is left to do."""
        left = "SELECT count(*) FROM tasks WHERE model = ? AND in_spec AND status != 'done'"
        return (
            self._meta(f"planned.{model}") is not None and self._select(left, (model,))[0][0] == 0
        )

    def planned(self, model: int) -> int | None:
        """Tasks of a model of the spec; None before it was planned."""
        count = self._meta(f"planned.{model}")
        return None if count is None else int(count)

    def finished(self) -> set[str]:
        """Ids of all tasks that have a row."""
        return {one[0] for one in self._select("SELECT id FROM tasks WHERE status = 'done'")}

    def fail(self, task: str, reason: str, run: int) -> None:
        """Note why a task has no row."""
        with self._transaction():
            self._db.execute(
                "UPDATE tasks SET status = 'failed', reason = ?, run = ? WHERE id = ?",
                (reason, run, task),
            )

    def failures(self) -> list[tuple[str, str]]:
        """Id and reason of each task of the spec that failed."""
        query = "SELECT id, reason FROM tasks WHERE status = 'failed' AND in_spec ORDER BY place"
        return [(one["id"], one["reason"]) for one in self._select(query)]

    def counts(self) -> Counts:
        """Where the study stands."""
        query = "SELECT status, count(*) FROM tasks WHERE in_spec GROUP BY status"
        by_status = dict(tuple(one) for one in self._select(query))
        aside = "SELECT count(*) FROM rows JOIN tasks ON id = task WHERE NOT in_spec"
        rate = self.seconds_per_cost()
        left = "SELECT coalesce(sum(cost), 0) FROM tasks WHERE in_spec AND status = 'pending'"
        cost = self._select(left)[0][0]
        return Counts(
            pending=by_status.get("pending", 0),
            done=by_status.get("done", 0),
            failed=by_status.get("failed", 0),
            kept_aside=self._select(aside)[0][0],
            seconds_left=None if rate is None else rate * cost,
        )

    def seconds_per_cost(self) -> float | None:
        """Seconds that a token-step of the estimate took so far; None before the first row."""
        query = "SELECT sum(seconds), sum(cost) FROM rows JOIN tasks ON id = task"
        seconds, cost = self._select(query)[0]
        return seconds / cost if cost and seconds is not None else None

    # -- rows -----------------------------------------------------------------------------------

    def add(self, measured: Sequence[tuple[ResultRow, TokenRecord]], run: int) -> None:
        """Keep rows with their vectors: first the vectors, each flushed and renamed, then the rows.

        Raises:
            UsageError: the disk is full; what was added before is safe.
        """
        for row, record in measured:
            write_atomically(self.vectors_path(row.task), record_bytes(record))
        holes = ", ".join("?" for _ in column_types())
        with self._transaction():
            for row, _ in measured:
                self._db.execute(f"INSERT OR IGNORE INTO rows VALUES ({holes})", row_to(row))
                self._db.execute(
                    "UPDATE tasks SET status = 'done', reason = NULL, run = ? WHERE id = ?",
                    (run, row.task),
                )
            self._db.execute(
                "UPDATE runs SET ended = ?, texts = texts + ?, tokens = tokens + ?, "
                "token_steps = token_steps + ? WHERE id = ?",
                (
                    _now(),
                    len(measured),
                    sum(row.tokens for row, _ in measured),
                    sum(row.token_steps for row, _ in measured),
                    run,
                ),
            )

    def rows(self) -> list[ResultRow]:
        """Rows of the spec's tasks, in the spec's order."""
        query = (
            "SELECT rows.* FROM rows JOIN tasks ON id = task WHERE in_spec "
            "ORDER BY tasks.model, place"
        )
        return [row_from(dict(one)) for one in self._select(query)]

    def vectors_path(self, task: str) -> Path:
        """Where the token record of a task is, if it has a row."""
        return self.folder / _VECTORS / f"{task}.safetensors"

    def record(self, task: str) -> TokenRecord:
        """The vectors of a row, and what is kept of its tokens.

        Raises:
            UsageError: the file is missing or damaged, or of a row that has other vectors.
        """
        path = self.vectors_path(task)
        record = read_record(path)
        for row in self._select("SELECT vectors, width FROM rows WHERE task = ?", (task,)):
            wanted = (row["vectors"], row["width"])
            if tuple(record.mem.shape) != wanted:
                damaged(path, "mem", record.mem, f"{wanted} of its row")
        return record

    # -- runs -----------------------------------------------------------------------------------

    def begin_run(self, settings: Mapping[str, Any]) -> int:
        """Note that a run begins, with all its settings; returns its number."""
        for left in (self.folder / _VECTORS).glob(".*.tmp"):  # of a run that was killed
            left.unlink(missing_ok=True)
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO runs (started, outcome, pid, settings) VALUES (?, 'running', ?, ?)",
                (_now(), os.getpid(), json.dumps(dict(settings), sort_keys=True)),
            )
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, outcome: str) -> None:
        """Note how a run ended: `done`, `interrupted` or `failed`."""
        with self._transaction():
            self._db.execute(
                "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", (_now(), outcome, run)
            )

    def runs(self) -> list[dict[str, Any]]:
        """All runs, the first one first."""
        found = [dict(one) for one in self._select("SELECT * FROM runs ORDER BY id")]
        return [one | {"settings": json.loads(one["settings"])} for one in found]

    def measured_by(self) -> dict[str, int]:
        """The number of the run that measured each row, by its task."""
        query = "SELECT task, run FROM rows JOIN tasks ON id = task"
        return {one["task"]: one["run"] for one in self._select(query)}

    def recipes(self) -> dict[str, dict[str, Any]]:
        """All settings of each row's recipe as they were when it was measured, by its task.

        Rows of runs that did not note them, as those of older stores, are left out.
        """
        noted = {one["id"]: one["settings"].get("recipes", {}) for one in self.runs()}
        query = "SELECT task, recipe, run FROM rows JOIN tasks ON id = task"
        return {
            one["task"]: noted[one["run"]][one["recipe"]]
            for one in self._select(query)
            if one["recipe"] in noted.get(one["run"], {})
        }

    # -- inside ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, on disk at the end."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._rollback()
                raise
            try:
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
        """All rows of a query; a database may be damaged behind a sound beginning."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise UsageError(f"STORE: {str(self.folder)!r} can't be read ({error})") from error

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def _check_version(self) -> None:
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        made_by = self._db.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise UsageError(f"STORE: {str(self.folder)!r} is no store of memcram")
        if made_by > VERSION:
            raise UsageError(
                f"STORE: {str(self.folder)!r} has version {made_by}, this memcram reads up to "
                f"{VERSION}; install a newer one"
            )
        there = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master")}
        if lost := [name for name in _TABLES if name not in there]:
            raise UsageError(f"STORE: {str(self.folder)!r} is damaged: no table {', '.join(lost)}")


def _check(folder: Path) -> None:
    """Refuse what SQLite would take for a new database, and what is none."""
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        raise UsageError(f"STORE: {str(folder)!r} {what}; name a folder that `study run` made")
    database = folder / _DATABASE
    if not database.is_file():
        raise UsageError(f"STORE: {str(folder)!r} is no store of memcram: no {_DATABASE}")
    if database.stat().st_size == 0:
        raise UsageError(f"STORE: {str(folder)!r} is empty: its {_DATABASE} has no bytes")


def _make_database(path: Path, spec_folder: Path) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(SCHEMA)
        values = {
            "created": _now(),
            "memcram": version("memcram"),
            "spec_folder": str(spec_folder),
        }
        db.executemany("INSERT INTO meta VALUES (?, ?)", list(values.items()))
    finally:
        db.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
