"""Run work in threads that pages watch, stop, and leave."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Status = TypeVar("Status")
Result = TypeVar("Result")

INTERVAL = 0.2
"""Seconds between two states that a page is shown."""

_ABANDONED = 30.0  # seconds after which nobody watches any more


class Cancelled(Exception):  # noqa: N818
    """The page that asked for the work was closed, or its panel was given other work."""


class Job(Generic[Status, Result]):
    """One piece of work in a thread of its own.

    Args:
        work: the work; it gets the job, whose `report`, `is_stopped` and `check` it calls.
    """

    def __init__(self, work: "Callable[[Job[Status, Result]], Result]") -> None:
        self._work = work
        self._stopped = threading.Event()
        self._cancelled = threading.Event()
        self._changed = threading.Event()
        self._ended = threading.Event()
        self._latest: Status | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._watched = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._result = self._work(self)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error
        finally:
            self._ended.set()
            self._changed.set()

    # -- called by the work ---------------------------------------------------------------------

    def report(self, status: Status) -> None:
        """Show a state; a later one replaces it if nobody has seen it yet."""
        self._latest = status
        self._changed.set()

    def is_stopped(self) -> bool:
        """Whether to end soon, keeping what there is."""
        return self._stopped.is_set() or self.is_cancelled()

    def is_cancelled(self) -> bool:
        """Whether nobody wants the result."""
        return self._cancelled.is_set() or time.monotonic() - self._watched > _ABANDONED

    def check(self) -> None:
        """End the work if nobody wants its result.

        Raises:
            Cancelled: nobody does.
        """
        if self.is_cancelled():
            raise Cancelled

    # -- called by the page ---------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the work to end with what there is."""
        self._stopped.set()

    def cancel(self) -> None:
        """Ask the work to end; its result is not wanted."""
        self._cancelled.set()

    def is_running(self) -> bool:
        """Whether the thread is still at work."""
        return self._thread.is_alive()

    def watch(self) -> Iterator[Status]:
        """Yield the latest state, at most every `INTERVAL` seconds, until the work ends.

        It does not wait for work that is cancelled. An iterator that is closed early cancels it.
        """
        try:
            while not self._ended.is_set() and not self._cancelled.is_set():
                self._watched = time.monotonic()
                if self._changed.wait(INTERVAL) and not self._ended.wait(INTERVAL):
                    self._changed.clear()
                    if self._latest is not None:
                        yield self._latest
        finally:
            if not self._ended.is_set():
                self.cancel()

    def result(self) -> Result:
        """Return what the work returned, or raise what it raised; after `watch` has ended."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result


@dataclass(frozen=True)
class Panel:
    """Where a job is shown.

    Attributes:
        page: session of a browser tab.
        name: of a part of that page, which shows one job at a time.
    """

    page: str
    name: str


class Jobs:
    """The work of all open pages: at most one job per panel."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[Panel, Job[Any, Any]] = {}
        self._running: list[Job[Any, Any]] = []

    def begin(self, panel: Panel, job: Job[Any, Any]) -> None:
        """Start a job; one that the panel already has is cancelled."""
        with self._lock:
            before = self._latest.get(panel)
            if before is not None:
                before.cancel()
            self._latest[panel] = job
            self._running = [one for one in self._running if one.is_running()] + [job]
            job.start()

    def end(self, panel: Panel, job: Job[Any, Any]) -> bool:
        """Drop a job that nobody watches any more; return whether it was the panel's latest."""
        job.cancel()
        with self._lock:
            is_latest = self._latest.get(panel) is job
            if is_latest:
                del self._latest[panel]
            return is_latest

    def stop(self, panel: Panel) -> None:
        """Ask a panel's job to end with what there is."""
        with self._lock:
            job = self._latest.get(panel)
        if job is not None:
            job.stop()

    def cancel(self, page: str) -> None:
        """Drop the jobs of a page."""
        with self._lock:
            for panel in [one for one in self._latest if one.page == page]:
                self._latest.pop(panel).cancel()

    def cancel_all(self) -> None:
        """Drop the jobs of all pages."""
        with self._lock:
            for job in self._latest.values():
                job.cancel()
            self._latest.clear()

    def running(self) -> int:
        """Count the jobs whose threads are at work, also those that are to end."""
        return sum(job.is_running() for job in self._running)
