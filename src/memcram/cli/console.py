"""Read texts and archives; print tables and JSON on stdout, and progress on stderr."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from memcram.errors import TextError, UsageError
from memcram.files import check_writable, reading, write_atomically

if TYPE_CHECKING:
    from memcram.compression.chunks import CodecProgress
    from memcram.engine.loop import EngineStatus

STREAM = "-"
_SECONDS_PER_LINE = 60.0  # of progress, where stderr is not a terminal


def print_report(
    fields: Mapping[str, Any],
    *,
    as_json: bool,
    details: Mapping[str, Any] | None = None,
    err: bool = False,
) -> None:
    """Print what a command has done: one field per line, or one JSON object.

    Args:
        fields: names and values.
        as_json: print JSON.
        details: more that only the JSON has.
        err: print the lines to stderr, because stdout carries something else.
    """
    if as_json:
        print_json(dict(fields) | dict(details or {}))
    else:
        print_fields(fields, err=err)


def print_json(content: Mapping[str, Any]) -> None:
    """Print one JSON object, with ASCII escapes where the encoding of stdout lacks a character."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(content)
    echo(text)


def print_fields(content: Mapping[str, Any], *, err: bool = False) -> None:
    """Print field names and values, one per line, under the names that the JSON uses."""
    width = max(len(name) for name in content)
    for name, value in content.items():
        echo(f"{name:<{width}}  {shown(value)}", err=err)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table with a heading; numbers are aligned to the right."""
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        numbers = all(isinstance(row[i], int | float) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown(value)) for value in row))
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(table)
    echo(captured.get().rstrip("\n"))


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line.

    Raises:
        UsageError: the stream can't be written, for example because its disk is full.
    """
    with writing("standard error" if err else "standard output"):
        click.echo(text, err=err)


@contextlib.contextmanager
def writing(stream: str) -> Iterator[None]:
    """Context manager around writes to `stream`, for errors of the system.

    Raises:
        UsageError: the stream can't be written.
        BrokenPipeError: its reader has gone.
    """
    try:
        yield
    except OSError as error:
        discard_output()
        if isinstance(error, BrokenPipeError):
            raise
        raise UsageError(f"{stream} can't be written ({error.strerror or error})") from error


def discard_output() -> None:
    """Discard what is still buffered for stdout, so that Python's exit does not fail on it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or not a real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def shown(value: Any) -> str:
    """Format a value on one line, without characters that are not printed."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    text = ", ".join(map(str, value)) or "-" if isinstance(value, list) else str(value)
    # An escape for each character that is not printed, such as a line break.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.3g} {self._unit}/s")


class ShowProgress(Protocol):
    """Updates a progress bar."""

    def __call__(
        self, done: int, total: int | None, note: str = "", label: str | None = None
    ) -> None:
        """Show `done` of `total`, a note, and a new label if it is not None."""


@contextlib.contextmanager
def progress_bar(label: str, *, quiet: bool, unit: str | None = None) -> Iterator[ShowProgress]:
    """Context manager showing a progress bar on stderr, or a line per minute if it is no terminal.

    Yields a function that does nothing when `quiet`.

    Args:
        label: what is in progress.
        quiet: show nothing.
        unit: of the counts; adds units per second and the time left. Without it the note says
            what is left.
    """
    if quiet or sys.stderr is None:
        yield lambda *_, **__: None
        return
    if not is_terminal(sys.stderr):
        yield _Lines(label, unit)
        return
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
    columns += [MofNCompleteColumn(), TextColumn("{task.fields[note]}")]
    if unit is not None:
        columns += [_Speed(unit), TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, note="")

        def show(done: int, total: int | None, note: str = "", label: str | None = None) -> None:
            bar.update(task, completed=done, total=total, note=note, description=label)

        yield show


class _Lines:
    """Prints progress as a line on stderr, at most once per `_SECONDS_PER_LINE`."""

    def __init__(self, label: str, unit: str | None) -> None:
        self._label, self._unit = label, unit
        self._began = self._last = time.monotonic()

    def __call__(
        self, done: int, total: int | None, note: str = "", label: str | None = None
    ) -> None:
        self._label = self._label if label is None else label
        now = time.monotonic()
        if now - self._last < _SECONDS_PER_LINE:
            return
        self._last = now
        of = "" if total is None else f" of {total:,}"
        count = f"{done:,}{of} {self._unit or ''}".rstrip()
        parts = [count, note, f"{(now - self._began) / 60:.0f} min"]
        with contextlib.suppress(OSError):  # progress that nobody reads must not end a run
            click.echo(f"{self._label}: {', '.join(filter(None, parts))}", err=True)


def chunk_progress(show: ShowProgress) -> "Callable[[CodecProgress], None]":
    """Show tokens that are correct, and finished chunks."""

    def report(state: "CodecProgress") -> None:
        show(state.tokens_correct, state.tokens_total, f"{state.chunks_done} chunks done")

    return report


def engine_progress(show: ShowProgress, total: int) -> "Callable[[EngineStatus], None]":
    """Show texts done of `total`, tokens held by those in progress, and steps per second."""
    began = time.monotonic()

    def report(status: "EngineStatus") -> None:
        rate = status.steps / max(time.monotonic() - began, 1e-9)
        held = f"{status.active} in progress hold {status.tokens_correct:,} tokens"
        show(status.done, total, f"{held}, {rate:.3g} steps/s")

    return report


def is_terminal(stream: Any) -> bool:
    """Whether a standard stream is open and a terminal."""
    return stream is not None and bool(stream.isatty())


def check_input(name: str, argument: str) -> None:
    """Refuse a file that can't be read, before any work is done for it.

    Raises:
        TextError: there is no such file, or it is a folder.
    """
    if name == STREAM:
        return
    try:
        Path(name).stat()
    except FileNotFoundError as error:
        raise TextError(f"{name!r} does not exist", argument=argument) from error
    except OSError as error:
        raise TextError(f"{name!r} can't be read ({error.strerror})", argument=argument) from error
    if Path(name).is_dir():
        hint = "name a file, or - for standard input"
        raise TextError(f"{name!r} is a folder; {hint}", argument=argument)


def read_input(name: str, argument: str) -> bytes:
    """Bytes of a file, or of standard input for `-`.

    Raises:
        TextError: there is no such file, it is a folder, or it can't be read.
    """
    check_input(name, argument)
    if name == STREAM and sys.stdin is None:
        raise TextError("standard input is closed", argument=argument)
    with reading(Path(name), argument):
        return sys.stdin.buffer.read() if name == STREAM else Path(name).read_bytes()


def check_output(name: str, *, force: bool, as_json: bool = False) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        UsageError: it exists without `force`, its folder is missing or read-only, or standard
            output is closed, a terminal, or to carry JSON.
    """
    if name != STREAM:
        check_writable(Path(name), force=force)
    elif as_json:
        raise UsageError("stdout already carries the output (-o -)", argument="as_json")
    elif sys.stdout is None:
        raise UsageError("standard output is closed", argument="output")
    elif is_terminal(sys.stdout):
        raise UsageError("'-' is a terminal; redirect it or name a file", argument="output")


def write_output(name: str, data: bytes) -> None:
    """Write a file completely or not at all, or to standard output for `-`.

    Raises:
        UsageError: it can't be written.
        BrokenPipeError: the reader of standard output has gone.
    """
    if name == STREAM:
        with writing("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    else:
        write_atomically(Path(name), data)
