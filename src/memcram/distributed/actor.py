"""What runs in a worker process: a job in a thread, and a queue of what it reports."""

import contextlib
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch

from memcram.errors import MemcramError, ModelError, first_line

Emit = Callable[[Sequence[Hashable], Any], None]
"""Takes the keys of finished items, and a message."""


class Job(Protocol):
    """Work of one kind."""

    def load(self, argument: Any) -> Any:
        """Prepare for batches, and return what the driver has to know."""

    def work(self, batch: Any, emit: Emit) -> None:
        """Do a batch; on KeyboardInterrupt, which `emit` may raise, emit what is done first."""


class Actor:
    """A worker; its methods return at once, except `load` and `events`.

    Args:
        job: what it does.
        threads: of torch on a CPU.
    """

    def __init__(self, job: Job, threads: int) -> None:
        torch.set_num_threads(threads)
        self._job = job
        # None follows the last report of a batch.
        self._events: queue.Queue[tuple[Sequence[Hashable], Any] | None] = queue.Queue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def ping(self) -> None:
        """Return once the process runs."""

    def load(self, argument: Any) -> Any:
        """Prepare for batches; an expected error is returned."""
        try:
            return self._job.load(argument)
        except MemcramError as error:
            return error

    def start(self, batch: Any) -> None:
        """Begin a batch; only to be called when the one before is done."""
        self._thread = threading.Thread(target=self._work, args=(batch,), daemon=True)
        self._thread.start()

    def events(self, seconds: float) -> tuple[list[tuple[Sequence[Hashable], Any]], bool]:
        """Return what was reported since the last call, and whether the batch is still running.

        Args:
            seconds: how long to wait for a first report.
        """
        thread = self._thread
        found: list[tuple[Sequence[Hashable], Any] | None] = []
        # Looked at first, so that nothing is reported after the last call.
        running = thread is not None and thread.is_alive()
        with contextlib.suppress(queue.Empty):
            if running:
                found.append(self._events.get(timeout=seconds))
            while True:
                found.append(self._events.get_nowait())
        return [one for one in found if one is not None], running

    def stop(self) -> None:
        """End the batch as Ctrl-C would."""
        self._stop.set()

    def _work(self, batch: Any) -> None:
        try:
            with contextlib.suppress(KeyboardInterrupt):  # of `stop`
                self._job.work(batch, self._emit)
        except MemcramError as error:
            self._events.put(((), error))
        except Exception as error:  # noqa: BLE001 - it must reach the driver
            said = f"{type(error).__name__}: {first_line(error)}"
            self._events.put(((), ModelError(f"a worker failed ({said})")))
        finally:
            self._events.put(None)

    def _emit(self, finished: Sequence[Hashable], message: Any) -> None:
        self._events.put((finished, message))
        # Once, and not while rows are passed on: the job reports what it has done after it.
        if self._stop.is_set() and not finished:
            self._stop.clear()
            raise KeyboardInterrupt
