"""Run a study: load each model once and cram the texts of each recipe in one engine."""

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from memcram.errors import Interrupted, MemcramError, ModelError, UsageError
from memcram.files import is_file, is_folder
from memcram.study.cells import cells, expected_cells
from memcram.study.grid import study_recipe
from memcram.study.in_progress import InProgress
from memcram.study.planned import PlannedTask
from memcram.study.progress import CellProgress, Counts, sum_known, with_running
from memcram.study.spec import Spec
from memcram.study.store import Store
from memcram.study.worker import Batch, Checkpoints, Failed, Message, Rows, Running
from memcram.study.workers import InProcess, Workers

# Between two records of the tasks in progress; each waits for the disk.
_RECORD_SECONDS = 5.0


@dataclass(frozen=True)
class StudyProgress:
    """Progress of a run.

    Attributes:
        label: current work.
        done: texts of the study that have a row.
        total: texts of the study; for models not loaded yet, duplicates are counted.
        seconds_left: estimate from the speed so far; None before the first row.
        cells: the cells of the study, in the spec's order; they sum up to `total`.
    """

    label: str
    done: int
    total: int
    seconds_left: float | None
    cells: Sequence[CellProgress] = ()


OnProgress = Callable[[StudyProgress], None]


def run_study(
    spec: Spec,
    store: Store,
    *,
    device: str | None = None,
    limit: int | None = None,
    on_progress: OnProgress | None = None,
    workers: Workers | None = None,
) -> Counts:
    """Measure the tasks of a study that have no row yet.

    Args:
        spec: what to measure.
        store: where rows are stored; locked by the caller.
        device: as for `load_lm`.
        limit: maximum number of texts; groups that share parameters are not split.
        on_progress: called as texts advance.
        workers: who crams the texts, such as `memcram.distributed.study.RayWorkers`; None: this
            process.

    Raises:
        UsageError: the spec does not fit a model or its texts, or the disk is full.
        ModelError: a model can't be loaded.
        Interrupted: at Ctrl-C; finished texts are kept.
    """
    settings = _settings(spec, device, limit)
    store.set_spec(spec.text, spec.folder, settings["recipes"])
    chosen = InProcess(device) if workers is None else workers
    run = store.begin_run(settings | {"workers": chosen.settings})
    session = _Session(spec, store, run, limit, chosen, on_progress)
    try:
        for model in range(len(spec.loads)):
            if not store.is_done(model) and session.wants_more():
                session.run_model(model)
    except KeyboardInterrupt as error:
        store.end_run(run, "interrupted")
        raise Interrupted(session.left()) from error
    except MemcramError as error:
        _end_failed(store, run)
        if not isinstance(error, UsageError | ModelError) or not store.counts().done:
            raise
        problem = f"{error.message(None)}; {session.left()}"
        raise type(error)(problem, argument=error.argument) from error
    store.end_run(run, "done")
    return store.counts()


class _Session:
    """State of one run: which tasks are left, and how many more it may measure."""

    def __init__(
        self,
        spec: Spec,
        store: Store,
        run: int,
        limit: int | None,
        workers: Workers,
        on_progress: OnProgress | None,
    ) -> None:
        self.spec = spec
        self.store = store
        self.run = run
        self.in_progress = InProgress(store.folder)
        self.in_progress.drop(store.finished())  # a killed run may have left them
        self._wanted = limit
        self._workers = workers
        self._on_progress = on_progress
        self._label, self._model = "", 0
        self._running: dict[int, Sequence[str]] = {}
        self._recorded_at = float("-inf")
        self._tasks: dict[str, PlannedTask] = {}
        self._cells = self._counted()

    def wants_more(self) -> bool:
        """Return whether the limit allows another text."""
        return self._wanted is None or self._wanted > 0

    def left(self) -> str:
        """Say how many texts are stored, and how to continue."""
        done, begun = self.store.counts().done, self.in_progress.count
        kept = f"{done} of {sum(cell.total for cell in self._cells)} texts" + (
            f" and {begun} in progress" if begun else ""
        )
        folder = str(self.store.folder)
        return f"{kept} are kept in {folder!r}; run the command again to continue"

    def run_model(self, model: int) -> None:
        """Measure the tasks of one model that have no row yet."""
        name = self.spec.loads[model].entry.id
        self._report(f"loading {name}")
        tasks = self._workers.load(self.spec, model, self.store.finished())
        self.store.plan(self.spec.study.name, model, tasks)
        if all(self.store.planned(one) is not None for one in range(len(self.spec.loads))):
            self.in_progress.keep(self.store.unfinished())  # not those of an earlier spec
        self._model, self._tasks, self._running = model, {task.id: task for task in tasks}, {}
        self._cells = self._counted()
        self._report(name)
        wanted: list[PlannedTask] = []
        for recipe in dict.fromkeys(task.recipe for task in tasks):
            wanted += self._pick([task for task in tasks if task.recipe == recipe])
        self._workers.run([t for t in wanted if t.needs is None], self._batch, self._handle)
        ready = self._ready([t for t in wanted if t.needs is not None])
        self._workers.run(ready, self._batch, self._handle)
        self.in_progress.write()

    def _pick(self, tasks: Sequence[PlannedTask]) -> list[PlannedTask]:
        """Select tasks without a row, as many as the limit allows."""
        finished = self.store.finished()
        left = [task for task in tasks if task.id not in finished]
        if self._wanted is not None and left:
            groups = {task.group for task in left[: self._wanted]} - {None}
            left = left[: self._wanted] + [
                task for task in left[self._wanted :] if task.group in groups
            ]
            self._wanted = max(0, self._wanted - len(left))
        return left

    def _ready(self, computed: Sequence[PlannedTask]) -> list[PlannedTask]:
        """Select the tasks whose vectors can be computed; the others fail."""
        finished = self.store.finished() if computed else set()
        lacking = [task for task in computed if not finished.issuperset(task.needs or ())]
        for task in lacking:
            reason = "needs the vectors of two solutions, one of which has no row"
            self.store.fail(task.id, reason, self.run)
        return [task for task in computed if task not in lacking]

    def _batch(self, tasks: Sequence[PlannedTask]) -> Batch:
        """Add what tasks need from the store."""
        ids = [task.id for task in tasks]
        needed = {need for task in tasks for need in task.needs or ()}
        mems = {task: self.store.record(task).mem for task in needed}
        return Batch(ids, self.in_progress.of(ids), mems)

    def _handle(self, worker: int, message: Message) -> None:
        """Store what a worker reports."""
        match message:
            case Rows(rows):
                self.store.add(rows, self.run)
                self.in_progress.drop(row.task for row, _ in rows)
                self._cells = self._counted()
            case Failed(tasks, reason):
                for task in tasks:
                    self.store.fail(task, reason, self.run)
                self.in_progress.drop(tasks)
                self._cells = self._counted()
            case Checkpoints(texts):
                self.in_progress.update(texts)
            case Running(label, tasks):
                self._label = label
                self._running[worker] = tasks
                self._record_running()
        self._report(self._label)

    def _record_running(self) -> None:
        """Record the tasks in progress in the store, for those who watch it."""
        if time.monotonic() - self._recorded_at >= _RECORD_SECONDS:
            self._recorded_at = time.monotonic()
            self.store.set_running([*chain(*self._running.values())], self.run)

    def _counted(self) -> list[CellProgress]:
        """List the cells: as stored, or for models not loaded yet as the spec says."""
        stored = self.store.cells()
        found: list[CellProgress] = []
        for model in range(len(self.spec.loads)):
            if self.store.planned(model) is None:
                found += expected_cells(self.spec, model)
            else:
                found += [cell for cell in stored if cell.model == model]
        return found

    def _report(self, label: str) -> None:
        """Report the progress of the study."""
        self._label = label
        if self._on_progress is not None:
            tasks = [self._tasks[task] for task in chain(*self._running.values())]
            cells = with_running(self._cells, [(self._model, task.cell) for task in tasks])
            self._on_progress(
                StudyProgress(
                    label,
                    done=sum(cell.done for cell in cells),
                    total=sum(cell.total for cell in cells),
                    seconds_left=sum_known(cell.seconds_left for cell in cells),
                    cells=cells,
                )
            )


def _end_failed(store: Store, run: int) -> None:
    with contextlib.suppress(UsageError):  # a full disk
        store.end_run(run, "failed")


def _settings(spec: Spec, device: str | None, limit: int | None) -> dict[str, Any]:
    """Collect what determines a run beyond its spec, such as the settings of each recipe."""
    recipes = [study_recipe(spec, name) for name in dict.fromkeys(c.recipe for c in cells(spec))]
    names = ("memcram", "torch", "transformers", "tokenizers", "safetensors", "numpy")
    return {
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "platform": platform.platform(),
        "device": device or "auto",
        "device_name": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "limit": limit,
        "recipes": {recipe.name: recipe.settings() for recipe in recipes},
        "spec": spec.text,
    }


def open_store(folder: Path, spec: Spec) -> Store:
    """Open the store of a spec, or create it.

    Raises:
        UsageError: the folder is something else, or can't be created.
    """
    if not is_folder(folder) and not is_file(folder):
        return Store.create(folder, spec.text, spec.folder)
    return Store(folder)
