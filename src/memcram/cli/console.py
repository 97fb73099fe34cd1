"""What a person sees: progress on stderr, tables and JSON on stdout."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from memcram.compression.chunks import CodecProgress


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(content, ensure_ascii=False))


def print_fields(content: Mapping[str, Any], *, err: bool = False) -> None:
    """Field names and values, a line each, under the names that the JSON uses."""
    width = max(len(name) for name in content)
    for name, value in content.items():
        click.echo(f"{name:<{width}}  {_shown(value)}", err=err)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table with a heading; numbers are set to the right."""
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        numbers = all(isinstance(row[i], int | float) for row in rows)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row))
    Console(highlight=False).print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return _on_one_line(str(value))


def _on_one_line(text: str) -> str:
    """The text with an escape for each character that is not printed, such as a line break."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.3g} {self._unit}/s")


@contextlib.contextmanager
def progress_bar(
    label: str, total: int | None, *, quiet: bool, unit: str = "tokens"
) -> Iterator["Callable[[CodecProgress], None] | None"]:
    """A bar of tokens (or another unit) with chunks done, units per second and time left.

    Yields None when `quiet` or when stderr is no terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[chunks]}"),
        _Speed(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, chunks="")

        def show(state: "CodecProgress") -> None:
            bar.update(
                task,
                total=state.tokens_total,
                completed=state.tokens_right,
                chunks=f"{state.chunks_done} done",
            )

        yield show
