"""Workers that cram the texts of a study: this process, or others that satisfy `Workers`."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any, Protocol

from memcram.study.planned import PlannedTask
from memcram.study.spec import Spec
from memcram.study.worker import Batch, Message, Worker

# Computed vectors that are measured in one batch.
_COMPUTED = 32


class Workers(Protocol):
    """Interface of workers that cram and measure tasks; this process alone writes the store."""

    @property
    def settings(self) -> dict[str, Any]:
        """What a run records about them; `count` is their number."""

    def load(self, spec: Spec, model: int, finished: AbstractSet[str]) -> list[PlannedTask]:
        """Load a model of the spec instead of the one before, and list its tasks.

        Args:
            spec: the study.
            model: index in the spec's `loads`.
            finished: ids of all tasks that have a row.
        """

    def run(
        self,
        tasks: Sequence[PlannedTask],
        batch_of: Callable[[Sequence[PlannedTask]], Batch],
        handle: Callable[[int, Message], None],
    ) -> None:
        """Work until every one of these tasks has a row or a reason for its failure.

        Args:
            tasks: all of them crammed, or all of them computed.
            batch_of: adds what tasks of one recipe need from the store; called when their turn
                comes.
            handle: called with the number of a worker, and what it reports.
        """


class InProcess:
    """One worker, in this process.

    Args:
        device: as for `load_lm`.
    """

    def __init__(self, device: str | None) -> None:
        self._device = device
        self._worker: Worker | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """One worker."""
        return {"backend": "local", "count": 1}

    def load(self, spec: Spec, model: int, finished: AbstractSet[str]) -> list[PlannedTask]:
        """Load a model, and list its tasks."""
        self._worker = None  # frees the model before
        self._worker = Worker(spec, model, self._device, finished)
        return self._worker.planned()

    def run(
        self,
        tasks: Sequence[PlannedTask],
        batch_of: Callable[[Sequence[PlannedTask]], Batch],
        handle: Callable[[int, Message], None],
    ) -> None:
        """Put all tasks of a recipe through one engine."""
        assert self._worker is not None
        for recipe in dict.fromkeys(task.recipe for task in tasks):
            of_recipe = [task for task in tasks if task.recipe == recipe]
            # The vectors that computed ones need are read from the store a few at a time.
            size = len(of_recipe) if of_recipe[0].needs is None else _COMPUTED
            for first in range(0, len(of_recipe), size):
                batch = batch_of(of_recipe[first : first + size])
                self._worker.work(batch, partial(handle, 0))
