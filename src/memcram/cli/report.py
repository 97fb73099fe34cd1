"""study report: the page of what was measured."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from memcram.cli.command import Command
from memcram.cli.console import print_fields, print_json
from memcram.cli.options import force_option, json_option, quiet_option, stacked
from memcram.errors import UsageError


@click.command(cls=Command)
@click.argument("stores", nargs=-1, metavar="[STORE]...")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder to write.")
@click.option("--published", is_flag=True, help="The published values alone, without any STORE.")
@click.option(
    "--texts",
    "max_texts",
    type=click.IntRange(min=0),
    default=400,
    show_default=True,
    metavar="N",
    help="Number of texts with a page per token, spread evenly.",
)
@stacked(force_option, json_option, quiet_option)
def report(
    stores: tuple[str, ...],
    output: str,
    published: bool,
    max_texts: int,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a page with tables and figures of each STORE, next to the published values.

    DIR/index.html opens from disk, without a network. Several stores go into one report; different
    recipes are kept apart. A study that is not finished is drawn from what is there, and says so.

    \b
    Examples:
      memcram study report pocket.study -o report/
      memcram study report pocket.study pythia-160m.study -o report/ --force
      memcram study report --published -o baseline/
    """
    if published == bool(stores):
        got = "got both" if published else "got none"
        allowed = "one or more stores, or --published alone"
        raise UsageError(got, argument="stores", allowed=allowed)
    need_extra("report", "pandas", "matplotlib", "jinja2")

    from memcram.report.page import check_folder, write_report
    from memcram.report.stores import load_stores

    check_folder(Path(output), force=force)
    data = None if published else load_stores([Path(store) for store in stores])
    with _parts(quiet=quiet) as on_part:
        page = write_report(data, Path(output), force=force, max_texts=max_texts, on_part=on_part)
    rows = 0 if data is None else len(data.rows)
    unfinished = [] if data is None else [part.name for part in data.unfinished]
    told = {"page": str(page), "rows": rows}
    if as_json:
        print_json(told | {"unfinished": unfinished})
    else:
        print_fields(told | {"unfinished": ", ".join(unfinished) or "-"})


def need_extra(command: str, *packages: str) -> None:
    """Refuse a command whose packages are missing, and say how to install them."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise UsageError(f"{command}: {names} not installed; run pip install 'memcram[study]'")


@contextlib.contextmanager
def _parts(*, quiet: bool) -> Iterator[Callable[[str], None] | None]:
    """Show the part in progress on a line of stderr; None when quiet or without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("report") as status:
        yield lambda name: status.update(f"report: {name}")
