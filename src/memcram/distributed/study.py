"""Run a study on Ray's workers; this process alone writes the store."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memcram.distributed.actor import Emit
from memcram.distributed.pool import Cluster, Pool
from memcram.distributed.schedule import Item
from memcram.errors import ModelError
from memcram.study.planned import PlannedTask
from memcram.study.read import parse_spec
from memcram.study.spec import Spec
from memcram.study.worker import Batch, Failed, Message, Rows, Running, Worker


@dataclass
class StudyJob:
    """One model of a study in a worker process.

    Attributes:
        text, path, folder: of the spec.
        device: as for `load_lm`.
    """

    text: str
    path: Path
    folder: Path
    device: str | None
    _worker: Worker | None = None

    def load(self, argument: tuple[int, AbstractSet[str]]) -> tuple[str, list[PlannedTask]]:
        """Load a model; return the version of memcram and the model's tasks."""
        model, finished = argument
        self._worker = None  # frees the model before
        spec = parse_spec(self.text, self.path, self.folder)
        self._worker = Worker(spec, model, self.device, finished)
        return version("memcram"), self._worker.planned()

    def work(self, batch: Batch, emit: Emit) -> None:
        """Cram and measure tasks."""
        assert self._worker is not None
        self._worker.work(batch, lambda message: emit(_finished(message), message))


class RayWorkers:
    """Workers of `run_study` on a Ray cluster.

    Args:
        cluster: where they run.
        device: as for `load_lm`; None: the GPU of a worker that has one, else the CPU.
    """

    def __init__(self, cluster: Cluster, device: str | None = None) -> None:
        self._cluster = cluster
        self._device = device or (None if cluster.uses_gpus else "cpu")
        self._pool: Pool | None = None

    @property
    def count(self) -> int:
        """Number of workers."""
        return self._cluster.count

    @property
    def settings(self) -> dict[str, Any]:
        """What a run records about its workers."""
        wanted = self._cluster.backend
        return {
            "backend": "ray",
            "count": self.count,
            "gpus": self.count if self._cluster.uses_gpus else 0,
            "cpus_per_worker": wanted.cpus_per_worker,
        }

    def load(self, spec: Spec, model: int, finished: AbstractSet[str]) -> list[PlannedTask]:
        """Load a model of the spec in every worker, and list its tasks."""
        if self._pool is None:
            job = StudyJob(spec.text, spec.path, spec.folder, self._device)
            self._pool = Pool(self._cluster, job)
        installed, planned = self._pool.load((model, finished))
        check_version(installed)
        return list(planned)

    def run(
        self,
        tasks: Sequence[PlannedTask],
        batch_of: Callable[[Sequence[PlannedTask]], Batch],
        handle: Callable[[int, Message], None],
    ) -> None:
        """Divide tasks among the workers; texts of a group go to one of them."""
        assert self._pool is not None
        planned = {task.id: task for task in tasks}
        items = [Item(task.id, task.cost, task.recipe, task.group) for task in tasks]

        def batch(some: Sequence[Item]) -> Batch:
            return batch_of([planned[str(item.key)] for item in some])

        try:
            for worker, message in self._pool.run(items, batch):
                lost = Running(f"worker {worker} was lost and is replaced", [])
                handle(worker, lost if message is None else message)
        except KeyboardInterrupt:
            for worker, message in self._pool.stop():
                handle(worker, message)
            raise


def check_version(installed: str) -> None:
    """Refuse workers with another version of memcram.

    Raises:
        ModelError: the versions differ.
    """
    here = version("memcram")
    if installed != here:
        raise ModelError(f"the workers have memcram {installed}, and this machine has {here}")


def _finished(message: Message) -> Sequence[str]:
    """List the tasks that a message is the last about."""
    match message:
        case Rows(rows):
            return [row.task for row, _ in rows]
        case Failed(tasks):
            return tasks
    return ()
