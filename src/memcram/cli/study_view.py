"""Show the progress of a study cell by cell, while it runs here or in another process."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from memcram.cli.console import echo, is_terminal, print_json, progress_bar, shown
from memcram.errors import Interrupted

if TYPE_CHECKING:
    from memcram.study.progress import CellProgress, Counts
    from memcram.study.runner import StudyProgress
    from memcram.study.store import Store

# Lines of the table at most, also on a tall terminal.
_MAX_CELLS = 20
_NAMES = ("model", "condition", "recipe", "source", "length", "vectors")
_COUNTED = ("done", "running", "pending", "failed", "seconds_left")
# Lines of a terminal that the table leaves free.
_OTHER_LINES = 5


@dataclass(frozen=True)
class View:
    """What is shown of a study at one moment.

    Attributes:
        title: what is in progress.
        cells: all cells.
        seconds_left: estimate; None before the first row.
    """

    title: str
    cells: Sequence["CellProgress"]
    seconds_left: float | None

    def summary(self) -> str:
        """Say how many texts are done, running and failed, and how long the rest takes."""
        done, total = sum(c.done for c in self.cells), sum(c.total for c in self.cells)
        parts = [f"{done:,} of {total:,} texts"]
        for name, count in (
            ("running", sum(c.running for c in self.cells)),
            ("failed", sum(c.failed for c in self.cells)),
        ):
            parts += [f"{count:,} {name}"] if count else []
        parts += [f"{duration(self.seconds_left)} left"] if self.seconds_left is not None else []
        return ", ".join(parts)

    def renderable(self, height: int) -> Group:
        """Draw a line of totals, and one line per cell that has work left.

        Args:
            height: lines of the terminal.
        """
        left = [cell for cell in self.cells if cell.pending]
        left.sort(key=lambda cell: not cell.running)
        most = max(1, min(_MAX_CELLS, height - _OTHER_LINES))
        first, rest = left[:most], left[most:]
        parts: list[Any] = [Text(f"{shown(self.title)}: {self.summary()}")]
        if first:
            parts.append(_table(first, self.cells))
        if rest:
            texts = sum(cell.pending for cell in rest)
            parts.append(Text(f"and {len(rest):,} more cells with {texts:,} texts", style="dim"))
        return Group(*parts)


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


@contextlib.contextmanager
def study_progress(*, quiet: bool) -> Iterator[Callable[["StudyProgress"], None]]:
    """Context manager showing a running study on stderr: a table, or a line per minute.

    Yields a function that takes each new state.

    Args:
        quiet: show nothing.
    """
    if quiet or not is_terminal(sys.stderr):
        with progress_bar("study", quiet=quiet) as show:

            def show_line(state: "StudyProgress") -> None:
                left = "" if state.seconds_left is None else f"{duration(state.seconds_left)} left"
                show(state.done, state.total, left, state.label)

            yield show_line
        return
    with _live(stderr=True) as draw:
        yield lambda state: draw(View(state.label, state.cells, state.seconds_left))


def watch(store: "Store", seconds: float, *, as_json: bool) -> None:
    """Show the progress of a store until nothing is left to do, or the run that writes it ends.

    Args:
        store: is only read.
        seconds: between refreshes.
        as_json: print a line of JSON each time.

    Raises:
        Interrupted: at Ctrl-C.
    """
    was_running = False
    with contextlib.ExitStack() as stack:
        draw = None
        if not as_json and is_terminal(sys.stdout):
            draw = stack.enter_context(_live(stderr=False))
        try:
            while True:
                look = _Look.at(store)
                if as_json:
                    print_json(look.fields())
                elif draw is not None:
                    draw(look.view())
                else:
                    echo(f"{look.run}: {look.view().summary()}")
                if not look.is_running and (was_running or not look.counts.pending):
                    return
                was_running = look.is_running
                time.sleep(seconds)
        except KeyboardInterrupt as error:
            raise Interrupted("the store was only read") from error


@dataclass(frozen=True)
class _Look:
    """What a store says at one moment.

    Attributes:
        folder: of the store.
        outcome: of its last run; None before the first.
        updated: when that run last wrote; in UTC.
        counts, cells: its progress.
    """

    folder: str
    outcome: str | None
    updated: str | None
    counts: "Counts"
    cells: Sequence["CellProgress"]

    @classmethod
    def at(cls, store: "Store") -> "_Look":
        """Read a store."""
        last = store.last_run()
        outcome, updated = (None, None) if last is None else last
        cells = store.cells()
        if outcome != "running":
            cells = [replace(cell, running=0) for cell in cells]
        return cls(str(store.folder), outcome, updated, store.counts(), cells)

    @property
    def is_running(self) -> bool:
        """Whether the last run has not ended."""
        return self.outcome == "running"

    @property
    def run(self) -> str:
        """Say what the last run does."""
        if self.outcome is None or self.updated is None:
            return "not run yet"
        if not self.is_running:
            return f"run {self.outcome}"
        age = datetime.now(UTC) - datetime.fromisoformat(self.updated)
        return f"running, wrote {duration(max(0.0, age.total_seconds()))} ago"

    def view(self) -> View:
        """What a terminal shows."""
        return View(f"{self.folder} ({self.run})", self.cells, self.counts.seconds_left)

    def fields(self) -> dict[str, Any]:
        """What a line of JSON has."""
        return {
            "store": self.folder,
            "outcome": self.outcome,
            "updated": self.updated,
            "done": self.counts.done,
            "running": sum(cell.running for cell in self.cells),
            "pending": self.counts.pending,
            "failed": self.counts.failed,
            "kept_aside": self.counts.kept_aside,
            "seconds_left": self.counts.seconds_left,
            "cells": [
                {name: getattr(cell.cell, name, None) for name in _NAMES}
                | {name: getattr(cell, name) for name in _COUNTED}
                for cell in self.cells
            ],
        }


@contextlib.contextmanager
def _live(*, stderr: bool) -> Iterator[Callable[[View], None]]:
    console = Console(stderr=stderr, highlight=False)
    with Live(console=console, transient=True) as live:
        yield lambda view: live.update(view.renderable(console.height))


def _table(left: Sequence["CellProgress"], every: Sequence["CellProgress"]) -> Table:
    """Draw cells; names that all cells share are left out."""
    names = [name for name in _NAMES if len({getattr(cell.cell, name, None) for cell in every}) > 1]
    table = Table(box=None, pad_edge=False)
    for name in names:
        side: Any = "right" if name in ("length", "vectors") else "left"
        table.add_column(name, no_wrap=True, justify=side)
    for name in ("done", "running", "failed", "left"):
        table.add_column(name, no_wrap=True, justify="right")
    for cell in left:
        time_left = "-" if cell.seconds_left is None else duration(cell.seconds_left)
        values = [shown(getattr(cell.cell, name, None)) for name in names]
        values += [f"{cell.done}/{cell.total}", str(cell.running), str(cell.failed), time_left]
        table.add_row(*map(Text, values))
    return table
