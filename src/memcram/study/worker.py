"""Load one model of a study; cram and measure its tasks, without the store."""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from torch import Tensor

from memcram.engine.batch import CramRequest
from memcram.engine.checkpoint import Checkpoint
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.errors import ModelError, UsageError
from memcram.models import load_lm
from memcram.models.frozen_lm import FrozenLM
from memcram.models.memory import is_out_of_memory
from memcram.recipes.strategies import Outcome
from memcram.study.clock import Clock
from memcram.study.grid import Task, expand, resolve_config, resolve_model
from memcram.study.in_progress import Copies
from memcram.study.kinds import KINDS
from memcram.study.measure import BareScores, Finished, Labels, measure, untrained
from memcram.study.planned import PlannedTask
from memcram.study.readers import Readers
from memcram.study.results import ResultRow, TokenRecord
from memcram.study.spec import KeyPath, Spec

# Finished texts are collected, to be scored and decoded in batches, but not for long: they are
# lost when the run is killed.
_GROUP = 32
_GROUP_SECONDS = 5.0
_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Batch:
    """Tasks of one recipe that go through one engine, with what they need from the store.

    Attributes:
        tasks: ids of the tasks that want a row.
        checkpoints: state from which tasks continue, by id.
        mems: vectors of finished tasks, by id, that other vectors are computed from.
    """

    tasks: Sequence[str]
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict)
    mems: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Rows of finished tasks, with their token records."""

    rows: Sequence[tuple[ResultRow, TokenRecord]]


@dataclass(frozen=True)
class Failed:
    """Tasks that can have no row, and why."""

    tasks: Sequence[str]
    reason: str


@dataclass(frozen=True)
class Running:
    """What a worker is doing, and the tasks in progress."""

    label: str
    tasks: Sequence[str]


@dataclass(frozen=True)
class Checkpoints:
    """State of tasks in progress, by id."""

    texts: Mapping[str, dict[str, Tensor]]


Message = Rows | Failed | Running | Checkpoints
"""What a worker reports."""

Emit = Callable[[Message], None]


class Worker:
    """One model of a study, loaded.

    Args:
        spec: the study.
        model: index in the spec's `loads`.
        device: as for `load_lm`.
        finished: ids of all tasks in the store that have a row; they decide with which fingerprint
            the store of an earlier version is continued.

    Raises:
        UsageError: the spec does not fit the model or its texts.
        ModelError: the model can't be loaded.
    """

    def __init__(
        self, spec: Spec, model: int, device: str | None, finished: AbstractSet[str]
    ) -> None:
        self.spec = spec
        self.lm = _load(spec, model, device)
        tasks = _tasks(spec, model, self.lm, finished)
        self.tasks = {task.id: task for task in tasks}
        self.labels = Labels(spec.study.name, spec.study.kind, spec.loads[model].entry.id)
        self.bare = BareScores(self.lm, tasks)
        self._readers = Readers(self.lm)

    def planned(self) -> list[PlannedTask]:
        """List all tasks of the model, in the spec's order."""
        return [task.planned() for task in self.tasks.values()]

    def work(self, batch: Batch, emit: Emit) -> None:
        """Work until every task of a batch has a row or a reason for its failure.

        At Ctrl-C, or if `emit` raises KeyboardInterrupt, finished rows and the state of texts in
        progress are emitted before it propagates.

        Args:
            batch: what to do.
            emit: called with all that the store has to know.

        Raises:
            ModelError: the model can't be compiled, or a text can't be probed.
        """
        for k in dict.fromkeys(self.tasks[task].kv_prefix for task in batch.tasks):
            tasks = [task for task in batch.tasks if self.tasks[task].kv_prefix == k]
            _Run(self, replace(batch, tasks=tasks), self._readers.of(k), emit).work()


def _load(spec: Spec, model: int, device: str | None) -> FrozenLM:
    load, study = spec.loads[model], spec.study
    try:
        return load_lm(
            resolve_model(spec, model),
            revision=load.entry.revision,
            config=resolve_config(spec, model),
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
        raise spec.error_from(key, error) from error


def _tasks(spec: Spec, model: int, lm: FrozenLM, finished: AbstractSet[str]) -> list[Task]:
    """List the tasks of a model; with its earlier fingerprint if most rows have that one.

    Tasks and rows are identified by it, so the store of an earlier version is continued.
    """
    tasks, identity = expand(spec, model, lm), lm.identity
    if identity.earlier_fingerprint is None:
        return tasks
    lm.identity = identity.as_before()
    former = expand(spec, model, lm)
    if sum(t.id in finished for t in former) > sum(t.id in finished for t in tasks):
        return former
    lm.identity = identity
    return tasks


class _Run:
    """Crams and measures the tasks of one batch with one engine."""

    def __init__(self, worker: Worker, batch: Batch, lm: FrozenLM, emit: Emit) -> None:
        self._worker = worker
        self._lm = lm
        self._emit = emit
        self._mems = batch.mems
        self._left = {task: worker.tasks[task] for task in batch.tasks}
        self._recipe = next(iter(self._left.values())).recipe
        self._copies = Copies(batch.checkpoints)
        self._label = f"{worker.labels.model}, {self._recipe.name}"
        self._finished: list[tuple[Task, Crammed]] = []
        self._kept_at = time.monotonic()
        self._reported_at = float("-inf")
        positions = sum(t.positions(self._lm) for t in self._left.values())
        self._clock = Clock(positions / len(self._left))

    def work(self) -> None:
        try:
            while self._left:
                try:
                    self._cram()
                    self._derive()
                except ModelError as error:
                    self._keep()
                    if not is_out_of_memory(error):
                        raise  # such as a failed compiler: the other texts would fail too
                    self._give_up(str(error))
        except KeyboardInterrupt:
            self._keep()
            self._emit(Checkpoints(self._copies.texts))
            raise
        self._emit(Running(self._label, []))

    def _derive(self) -> None:
        """Measure vectors that are computed."""
        derived = [task for task in self._left.values() if task.derived is not None]
        for first in range(0, len(derived), _GROUP):
            for task in derived[first : first + _GROUP]:
                assert task.derived is not None
                mem = task.derived.vectors(self._lm, self._mems.__getitem__)
                self._finished.append((task, untrained(task.id, mem, len(task.ids))))
            self._keep()

    def _cram(self) -> None:
        # A group is crammed as a whole, even if some of its rows are stored already.
        groups = {task.group for task in self._left.values()} - {None}
        tasks = self._worker.tasks.values() if groups else self._left.values()
        together = [t for t in tasks if t.id in self._left or t.group in groups]
        path = KINDS[self._worker.labels.kind].keeps_path
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
            for t in together
            if t.derived is None
        ]
        if not requests:
            return
        study = self._worker.spec.study
        engine = Engine(
            self._lm,
            self._recipe,
            compute_dtype=study.compute_dtype or self._lm.dtype,
            compile_trunk=study.compile,
        )

        def poll(status: EngineStatus) -> None:
            self._poll(engine, status)

        going_on = self._copies.of(self._left, self._clock)
        self._clock.begin()
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

    def _poll(self, engine: Engine, status: EngineStatus) -> None:
        self._clock.observe(status)
        self._keep_if_due()
        if time.monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = time.monotonic()
            running = [str(key) for key in engine.begun if str(key) in self._left]
            self._emit(Running(self._label, running))
        if self._copies.copy_if_due(engine, self._left, self._clock):
            self._emit(Checkpoints(self._copies.texts))

    def _keep_if_due(self) -> None:
        waited = time.monotonic() - self._kept_at
        if len(self._finished) >= _GROUP or (self._finished and waited >= _GROUP_SECONDS):
            self._clock.pause()
            self._keep()
            self._clock.resume()

    def _keep(self) -> None:
        """Measure the finished texts and emit their rows."""
        self._kept_at = time.monotonic()
        if not self._finished:
            return
        labels = self._worker.labels
        kind = KINDS[labels.kind]
        while self._finished:
            # A probe takes as long as many texts, so each is committed by itself.
            some = self._finished[: 1 if kind.probes else None]
            measured = [
                Finished(task, crammed, self._clock.seconds_of(crammed), kind.finds_length)
                for task, crammed in some
            ]
            self._emit(Rows(measure(self._lm, labels, measured, self._worker.bare)))
            self._drop([task.id for task, _ in some])
            self._finished = self._finished[len(some) :]

    def _give_up(self, reason: str) -> None:
        """Report a failure of the longest text left, with its group: it needs the most memory."""
        left = list(self._left.values())
        tasks = [task for task in left if task.derived is None] or left
        worst = max(tasks, key=lambda t: t.positions(self._lm))
        group = [
            t.id for t in tasks if t is worst or (t.group is not None and t.group == worst.group)
        ]
        self._emit(Failed(group, reason))
        self._drop(group)

    def _drop(self, tasks: Sequence[str]) -> None:
        self._copies.drop(tasks)
        for task in tasks:
            del self._left[task]
