"""The command `study report`: a page with tables and figures of studies."""

from pathlib import Path

import click

from memcram.cli import complete, options
from memcram.cli.command import Command
from memcram.cli.console import print_report, progress_bar
from memcram.errors import UsageError, require


@click.command(cls=Command)
@click.argument("stores", nargs=-1, metavar="[STORE|CSV]...", shell_complete=complete.files)
@options.output("DIR", "Folder to write.", required=True)
@click.option("--published", is_flag=True, help="Show only published values, without a STORE.")
@options.number(
    "--texts",
    "max_texts",
    least=0,
    default=400,
    help="Number of texts with a page per token, spread evenly.",
)
@click.option(
    "--one-page",
    is_flag=True,
    help="Put the figures into index.html, without pages of texts.",
)
@click.option(
    "--bytes",
    "coders",
    multiple=True,
    metavar="FILE",
    shell_complete=complete.files,
    help="Add the table of a file that benchmarks/bytes.py wrote; may be repeated.",
)
@options.stacked(options.force, options.json, options.quiet)
def report(
    stores: tuple[str, ...],
    output: str,
    published: bool,
    max_texts: int,
    one_page: bool,
    coders: tuple[str, ...],
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a report with tables and figures of one or more STOREs.

    Published values are shown next to the measured ones. DIR/index.html opens from disk, without a
    network. CSV files of `memcram study export --run-file` can take the place of stores, but have
    no pages per token. An unfinished study is drawn from the available rows, with a notice.

    \b
    Examples:
      memcram study report pocket.study -o report/
      memcram study report pocket.study pythia-160m.study -o report/ --force
      memcram study report results/pocket.csv -o report/ --one-page
      memcram study report --published -o baseline/
      memcram study report pocket.study --bytes bytes.json -o report/
    """
    if published == bool(stores):
        got = "got both" if published else "got none"
        allowed = "one or more stores, or --published alone"
        raise UsageError(got, argument="stores", allowed=allowed)
    require("reports", "pandas", "matplotlib", "jinja2")

    from memcram.report.coders import coder_table
    from memcram.report.page import check_folder, write_report
    from memcram.report.stores import load_stores

    check_folder(Path(output), force=force)
    table = coder_table([Path(one) for one in coders])
    data = None if published else load_stores([Path(store) for store in stores])
    with progress_bar("report", quiet=quiet) as show:
        page = write_report(
            data,
            Path(output),
            force=force,
            max_texts=max_texts,
            one_page=one_page,
            on_part=lambda name: show(0, None, label=f"report: {name}"),
            coders=table,
        )
    rows = 0 if data is None else len(data.rows)
    unfinished = [] if data is None else [part.name for part in data.unfinished]
    print_report({"page": str(page), "rows": rows, "unfinished": unfinished}, as_json=as_json)
