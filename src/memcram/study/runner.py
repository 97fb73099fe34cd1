"""Run a study: load each model once and cram the texts of each recipe in one engine."""

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.errors import Interrupted, MemcramError, ModelError, UsageError
from memcram.models import load_lm
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome
from memcram.study.cells import cell_samples, cells
from memcram.study.clock import Clock
from memcram.study.grid import (
    Task,
    expand,
    resolve_config,
    resolve_model,
    study_recipe,
)
from memcram.study.in_progress import InProgress
from memcram.study.kinds import KINDS
from memcram.study.measure import BareScores, Finished, Labels, measure, untrained
from memcram.study.spec import KeyPath, Spec
from memcram.study.store import Counts, Store

# Finished texts are collected, to be scored and decoded in batches, but not for long: they are
# lost when the run is killed.
_GROUP = 32
_GROUP_SECONDS = 5.0


@dataclass(frozen=True)
class StudyProgress:
    """Progress of a run.

    Attributes:
        label: current work.
        done: texts of the study that have a row.
        total: texts of the study; for models not loaded yet, duplicates are counted.
        seconds_left: estimate from the speed so far; None before the first row.
    """

    label: str
    done: int
    total: int
    seconds_left: float | None


OnProgress = Callable[[StudyProgress], None]


def run_study(
    spec: Spec,
    store: Store,
    *,
    device: str | None = None,
    limit: int | None = None,
    on_progress: OnProgress | None = None,
) -> Counts:
    """Measure the tasks of a study that have no row yet.

    Args:
        spec: what to measure.
        store: where rows are stored; locked by the caller.
        device: as for `load_lm`.
        limit: maximum number of texts; groups that share parameters are not split.
        on_progress: called as texts advance.

    Raises:
        UsageError: the spec does not fit a model or its texts, or the disk is full.
        ModelError: a model can't be loaded.
        Interrupted: at Ctrl-C; finished texts are kept.
    """
    store.set_spec(spec.text, spec.folder)
    run = store.begin_run(_settings(spec, device, limit))
    session = _Session(spec, store, run, limit, on_progress)
    try:
        for model in range(len(spec.loads)):
            if not store.is_done(model) and session.wants_more():
                session.run_model(model, device)
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
        self, spec: Spec, store: Store, run: int, limit: int | None, on_progress: OnProgress | None
    ) -> None:
        self.spec = spec
        self.store = store
        self.run = run
        self.in_progress = InProgress(store.folder)
        self.in_progress.drop(store.finished())  # a killed run may have left them
        self._wanted = limit
        self._on_progress = on_progress
        self._counts = store.counts()

    def wants_more(self) -> bool:
        """Return whether the limit allows another text."""
        return self._wanted is None or self._wanted > 0

    def left(self) -> str:
        """Say how many texts are stored, and how to continue."""
        done, begun = self.store.counts().done, self.in_progress.count
        kept = f"{done} of {self._total()} texts" + (f" and {begun} in progress" if begun else "")
        folder = str(self.store.folder)
        return f"{kept} are kept in {folder!r}; run the command again to continue"

    def run_model(self, model: int, device: str | None) -> None:
        """Measure the tasks of one model that have no row yet."""
        entry, study = self.spec.loads[model].entry, self.spec.study
        self.report(f"loading {entry.id}")
        lm = self._load(model, device)
        tasks = self._tasks(model, lm)
        self.store.plan(study.name, model, tasks)
        self._counts = self.store.counts()
        labels = Labels(study.name, study.kind, entry.id)
        bare = BareScores(lm, tasks)
        for recipe in dict.fromkeys(task.recipe for task in tasks):
            of_recipe = [task for task in tasks if task.recipe == recipe]
            wanted = self._pick(of_recipe)
            if wanted:
                _RecipeRun(self, lm, recipe, labels, bare, wanted).work(of_recipe)

    def _load(self, model: int, device: str | None) -> FrozenLM:
        load, study = self.spec.loads[model], self.spec.study
        try:
            return load_lm(
                resolve_model(self.spec, model),
                revision=load.entry.revision,
                config=resolve_config(self.spec, model),
                device=device,
                dtype=study.dtype,
                attention=study.attention,
                layout=load.entry.layout,
                autocast=study.autocast,
                layers=load.layers,
            )
        except (UsageError, ModelError) as error:
            if error.argument == "layers" and load.layers is not None:
                key: KeyPath = ("layers", study.of_kind("layers").index(load.layers))
            elif error.argument == "config":
                key = ("models", study.models.index(load.entry), "config")
            else:
                raise
            raise self.spec.error_from(key, error) from error

    def _tasks(self, model: int, lm: FrozenLM) -> list[Task]:
        """List the tasks of a model; with its earlier fingerprint if most rows have that one.

        Tasks and rows are identified by it, so the store of an earlier version is continued.
        """
        tasks, identity = expand(self.spec, model, lm), lm.identity
        if identity.earlier_fingerprint is None:
            return tasks
        lm.identity = identity.as_before()
        former = expand(self.spec, model, lm)
        finished = self.store.finished()
        if sum(t.id in finished for t in former) > sum(t.id in finished for t in tasks):
            return former
        lm.identity = identity
        return tasks

    def _pick(self, tasks: Sequence[Task]) -> dict[str, Task]:
        """Select tasks without a row, as many as the limit allows."""
        finished = self.store.finished()
        left = [task for task in tasks if task.id not in finished]
        if self._wanted is not None and left:
            groups = {task.group for task in left[: self._wanted]} - {None}
            left = left[: self._wanted] + [
                task for task in left[self._wanted :] if task.group in groups
            ]
            self._wanted = max(0, self._wanted - len(left))
        return {task.id: task for task in left}

    def keep(self, measured: Sequence[Any]) -> None:
        """Commit rows."""
        self.store.add(measured, self.run)
        self._counts = self.store.counts()

    def _total(self) -> int:
        """Count the texts: as planned, or for models not loaded yet as the spec says."""
        each = sum(cell_samples(self.spec, cell) for cell in cells(self.spec))
        planned = [self.store.planned(model) for model in range(len(self.spec.loads))]
        return sum(each if count is None else count for count in planned)

    def report(self, label: str) -> None:
        """Report the progress of the study."""
        if self._on_progress is not None:
            counts = self._counts
            self._on_progress(StudyProgress(label, counts.done, self._total(), counts.seconds_left))


class _RecipeRun:
    """Crams and measures the wanted tasks of one model and recipe with one engine."""

    def __init__(
        self,
        session: _Session,
        lm: FrozenLM,
        recipe: Recipe,
        labels: Labels,
        bare: BareScores,
        wanted: dict[str, Task],
    ) -> None:
        self._session = session
        self._lm = lm
        self._labels = labels
        self._bare = bare
        self._recipe = recipe
        self._left = wanted
        self._label = f"{labels.model}, {recipe.name}"
        self._finished: list[tuple[Task, Crammed]] = []
        self._kept_at = time.monotonic()
        self._reported_at = float("-inf")
        positions = sum(t.positions(lm) for t in wanted.values())
        self._clock = Clock(positions / len(wanted))

    def work(self, tasks: Sequence[Task]) -> None:
        """Work until every wanted task has a row or a reason for its failure.

        Args:
            tasks: all tasks of the recipe, since a group is crammed as a whole even if some of
                its rows are stored already.
        """
        try:
            while self._left:
                groups = {task.group for task in self._left.values()} - {None}
                together = [t for t in tasks if t.id in self._left or t.group in groups]
                try:
                    self._cram([task for task in together if task.derived is None])
                    self._derive([task for task in together if task.derived is not None])
                except ModelError as error:
                    self._keep()
                    self._give_up(str(error))
        except KeyboardInterrupt:
            self._keep()
            self._session.in_progress.write()
            raise
        self._session.in_progress.write()

    def _derive(self, tasks: Sequence[Task]) -> None:
        """Measure vectors that are computed; the solutions they are computed from have rows."""
        store = self._session.store
        kept = store.finished() if tasks else set()
        for first in range(0, len(tasks), _GROUP):
            for task in tasks[first : first + _GROUP]:
                assert task.derived is not None
                if kept.issuperset(task.derived.needs):
                    mem = task.derived.vectors(self._lm, lambda of: store.record(of).mem)
                    self._finished.append((task, untrained(task.id, mem, len(task.ids))))
                else:
                    reason = "needs the vectors of two solutions, one of which has no row"
                    store.fail(task.id, reason, self._session.run)
                    del self._left[task.id]
            self._keep()

    def _cram(self, tasks: Sequence[Task]) -> None:
        path = KINDS[self._labels.kind].keeps_path
        requests = [
            CramRequest(
                t.id,
                t.ids,
                t.vectors,
                t.seed,
                group=t.group,
                with_path=path,
                init=t.init,
                prefix=t.prefix,
            )
            for t in tasks
        ]
        if not requests:
            return
        study = self._session.spec.study
        engine = Engine(
            self._lm,
            self._recipe,
            compute_dtype=study.compute_dtype or self._lm.dtype,
            compile_trunk=study.compile,
        )

        def poll(status: EngineStatus) -> None:
            self._poll(status)
            self._session.in_progress.copy_if_due(engine, self._left, self._clock)

        going_on = self._session.in_progress.of(self._left, self._clock)
        self._clock.resume()
        try:
            for crammed in engine.run(requests, poll, checkpoints=going_on):
                self._clock.retire(crammed)
                task = self._left.get(str(crammed.key))
                if task is not None and crammed.outcome != Outcome.INTERRUPTED:
                    self._finished.append((task, crammed))
                self._keep_if_due()
        finally:
            self._clock.pause()
        self._keep()

    def _poll(self, status: EngineStatus) -> None:
        self._clock.observe(status)
        self._keep_if_due()
        if time.monotonic() - self._reported_at >= 0.5:
            self._reported_at = time.monotonic()
            self._session.report(self._label)

    def _keep_if_due(self) -> None:
        waited = time.monotonic() - self._kept_at
        if len(self._finished) >= _GROUP or (self._finished and waited >= _GROUP_SECONDS):
            self._clock.pause()
            self._keep()
            self._clock.resume()

    def _keep(self) -> None:
        """Measure the finished texts and commit their rows."""
        self._kept_at = time.monotonic()
        if not self._finished:
            return
        kind = KINDS[self._labels.kind]
        while self._finished:
            # A probe takes as long as many texts, so each is committed by itself.
            some = self._finished[: 1 if kind.probes else None]
            measured = [
                Finished(task, crammed, self._clock.seconds_of(crammed), kind.finds_length)
                for task, crammed in some
            ]
            self._session.keep(measure(self._lm, self._labels, measured, self._bare))
            self._session.in_progress.drop(task.id for task, _ in some)
            for task, _ in some:
                del self._left[task.id]
            self._finished = self._finished[len(some) :]
        self._session.report(self._label)

    def _give_up(self, reason: str) -> None:
        """Record a failure of the longest text left, with its group: it needs the most memory."""
        left = list(self._left.values())
        tasks = [task for task in left if task.derived is None] or left
        worst = max(tasks, key=lambda t: t.positions(self._lm))
        for task in tasks:
            if task is worst or (task.group is not None and task.group == worst.group):
                self._session.store.fail(task.id, reason, self._session.run)
                self._session.in_progress.drop([task.id])
                del self._left[task.id]


def _end_failed(store: Store, run: int) -> None:
    with contextlib.suppress(UsageError):  # a full disk
        store.end_run(run, "failed")


def _settings(spec: Spec, device: str | None, limit: int | None) -> dict[str, Any]:
    """Collect what determines a run beyond its spec, such as the settings of each recipe."""
    recipes = [study_recipe(spec, name) for name in spec.study.recipes]
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
    if not folder.exists():
        return Store.create(folder, spec.text, spec.folder)
    return Store(folder)
