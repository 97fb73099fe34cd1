"""Runs a study: each model once, all cells of a model and recipe through one engine, row by row."""

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
from memcram.study.clock import Clock
from memcram.study.grid import Task, cell_samples, cells, expand, resolve_model, study_recipe
from memcram.study.kinds import KINDS
from memcram.study.measure import BareScores, Finished, Labels, is_kept, measure, untrained
from memcram.study.spec import Spec
from memcram.study.store import Counts, Store

# Finished texts wait for one another, to be scored and decoded together, but not for long: what
# waits is lost when a run is killed.
_GROUP = 32
_GROUP_SECONDS = 5.0


@dataclass(frozen=True)
class StudyProgress:
    """How far a run is.

    Attributes:
        label: what is being done.
        done: texts of the study that have a row.
        total: texts of the study; of models that were not loaded yet, duplicates included.
        seconds_left: at the speed so far; None while it is not known.
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
    """Measure what is left of a study.

    Args:
        spec: what to measure.
        store: where rows are kept; locked by the caller.
        device: as for `load_lm`.
        limit: texts of this run at most; groups that share parameters are kept whole.
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
        raise type(error)(f"{error}; {session.left()}") from error
    store.end_run(run, "done")
    return store.counts()


class _Session:
    """One run: which tasks are still wanted, and the way of their results into the store."""

    def __init__(
        self, spec: Spec, store: Store, run: int, limit: int | None, on_progress: OnProgress | None
    ) -> None:
        self.spec = spec
        self.store = store
        self.run = run
        self._wanted = limit
        self._on_progress = on_progress
        self._counts = store.counts()

    def wants_more(self) -> bool:
        """Whether the limit leaves room for another text."""
        return self._wanted is None or self._wanted > 0

    def left(self) -> str:
        """What is kept and what is left, as a sentence."""
        counts = self.store.counts()
        return (
            f"{counts.done} of {self._total()} texts are kept in {str(self.store.folder)!r}; "
            "run it again to go on"
        )

    def run_model(self, model: int, device: str | None) -> None:
        """Measure what is left of one model."""
        entry, study = self.spec.loads[model].entry, self.spec.study
        self._tell(f"loading {entry.id}")
        lm = self._load(model, device)
        tasks = expand(self.spec, model, lm)
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
                device=device,
                dtype=study.dtype,
                attention=study.attention,
                layout=load.entry.layout,
                autocast=study.autocast,
                layers=load.layers,
            )
        except UsageError as error:
            argument, _, message = str(error).partition(": ")
            if argument != "layers" or load.layers is None:
                raise
            place = (study.layers or []).index(load.layers)
            raise self.spec.error(("layers", place), message) from error

    def _pick(self, tasks: Sequence[Task]) -> dict[str, Task]:
        """Tasks without a row, as many as the limit allows."""
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
        """Commit rows, and tell."""
        self.store.add(measured, self.run)
        self._counts = self.store.counts()

    def report(self, label: str) -> None:
        """Tell how far the study is."""
        self._tell(label)

    def _total(self) -> int:
        """Texts of the study: those planned, and for models not loaded yet those of the spec."""
        each = sum(cell_samples(self.spec, cell) for cell in cells(self.spec))
        planned = [self.store.planned(model) for model in range(len(self.spec.loads))]
        return sum(each if count is None else count for count in planned)

    def _tell(self, label: str) -> None:
        if self._on_progress is not None:
            counts = self._counts
            self._on_progress(StudyProgress(label, counts.done, self._total(), counts.seconds_left))


class _RecipeRun:
    """All wanted tasks of one model and recipe, through one engine."""

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
        self._waiting: list[tuple[Task, Crammed]] = []
        self._kept_at = time.monotonic()
        self._told_at = float("-inf")
        mean = sum(lm.input_length(t.vectors, len(t.ids)) for t in wanted.values())
        self._clock = Clock(mean / len(wanted))

    def work(self, tasks: Sequence[Task]) -> None:
        """Cram until every wanted task has a row or a reason.

        Args:
            tasks: all tasks of the recipe: a group is crammed whole although some of its rows are
                kept already.
        """
        try:
            while self._left:
                groups = {task.group for task in self._left.values()} - {None}
                together = [t for t in tasks if t.id in self._left or t.group in groups]
                try:
                    self._cram([task for task in together if task.made is None])
                    self._make([task for task in together if task.made is not None])
                except ModelError as error:
                    self._keep()
                    self._give_up(str(error))
        except KeyboardInterrupt:
            self._keep()
            raise

    def _make(self, tasks: Sequence[Task]) -> None:
        """Measure vectors that are not crammed; those they are made from have rows by now."""
        store = self._session.store
        kept = store.finished() if tasks else set()
        for first in range(0, len(tasks), _GROUP):
            for task in tasks[first : first + _GROUP]:
                assert task.made is not None
                if kept.issuperset(task.made.needs):
                    mem = task.made.vectors(self._lm, lambda of: store.record(of).mem)
                    self._waiting.append((task, untrained(task.id, mem, len(task.ids))))
                else:
                    reason = "made from the vectors of two solutions, of which one has no row"
                    store.fail(task.id, reason, self._session.run)
                    del self._left[task.id]
            self._keep()

    def _cram(self, tasks: Sequence[Task]) -> None:
        path = KINDS[self._labels.kind].keeps_path
        requests = [
            CramRequest(t.id, t.ids, t.vectors, t.seed, group=t.group, with_path=path)
            for t in tasks
        ]
        if not requests:
            return
        engine = Engine(self._lm, self._recipe)
        self._clock.resume()
        try:
            for crammed in engine.run(requests, self._poll):
                self._clock.retired(crammed)
                task = self._left.get(str(crammed.key))
                if task is not None and is_kept(crammed):
                    self._waiting.append((task, crammed))
                self._keep_if_due()
        finally:
            self._clock.pause()
        self._keep()

    def _poll(self, status: EngineStatus) -> None:
        self._clock.seen(status)
        self._keep_if_due()
        if time.monotonic() - self._told_at >= 0.5:
            self._told_at = time.monotonic()
            self._session.report(self._label)

    def _keep_if_due(self) -> None:
        waited = time.monotonic() - self._kept_at
        if len(self._waiting) >= _GROUP or (self._waiting and waited >= _GROUP_SECONDS):
            self._clock.pause()
            self._keep()
            self._clock.resume()

    def _keep(self) -> None:
        """Measure what waits, and commit it."""
        self._kept_at = time.monotonic()
        if not self._waiting:
            return
        finds_length = KINDS[self._labels.kind].finds_length
        finished = [
            Finished(task, crammed, self._clock.share(crammed), finds_length)
            for task, crammed in self._waiting
        ]
        self._session.keep(measure(self._lm, self._labels, finished, self._bare))
        for task, _ in self._waiting:
            del self._left[task.id]
        self._waiting = []
        self._session.report(self._label)

    def _give_up(self, reason: str) -> None:
        """Note a failure for the longest text that is left, with its group: it needs most."""
        left = list(self._left.values())
        tasks = [task for task in left if task.made is None] or left
        worst = max(tasks, key=lambda t: self._lm.input_length(t.vectors, len(t.ids)))
        for task in tasks:
            if task is worst or (task.group is not None and task.group == worst.group):
                self._session.store.fail(task.id, reason, self._session.run)
                del self._left[task.id]


def _end_failed(store: Store, run: int) -> None:
    with contextlib.suppress(UsageError):  # on a full disk not even that can be noted
        store.end_run(run, "failed")


def _settings(spec: Spec, device: str | None, limit: int | None) -> dict[str, Any]:
    """Everything about a run that its spec does not say; so of each recipe what its name means."""
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
    """The store of a spec, made if there is none.

    Raises:
        UsageError: something else is in the way.
    """
    if not folder.exists():
        return Store.create(folder, spec.text, spec.folder)
    return Store(folder)
