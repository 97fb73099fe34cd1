"""The command `explain`: a page that shows a text token by token."""

from pathlib import Path

import click

from memcram.cli import complete, options
from memcram.cli.codec import open_archive, open_model
from memcram.cli.command import Command
from memcram.cli.console import (
    STREAM,
    check_output,
    chunk_progress,
    print_report,
    progress_bar,
    write_output,
)
from memcram.errors import UsageError, require
from memcram.files import is_folder


@click.command(cls=Command)
@click.argument("source", metavar="ARCHIVE|STORE", shell_complete=complete.files)
@click.argument("text_id", required=False)
@options.output("FILE", "Page to write, or - for stdout.", required=True)
@options.stacked(options.archive_model, options.config, options.device)
@options.stacked(options.force, options.json, options.quiet)
def explain(
    source: str,
    text_id: str | None,
    output: str,
    model: str | None,
    config: str | None,
    device: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write a page that shows a text token by token.

    It shows margins, surprisal, ranks and the horizon. All chunks of an ARCHIVE are decoded again
    with its model. In a STORE, TEXT_ID selects a text or the task of a row; if a text has several
    rows, the one with the most tokens is shown.

    \b
    Examples:
      memcram explain poem.txt.mem.safetensors -o poem.html
      memcram explain pocket.study 5d1f0c2b7a9e4c38 -o text.html
    """
    check_output(output, force=force, as_json=as_json)
    require("pages of texts", "jinja2")
    place = Path(source)
    if is_folder(place):
        for given, value in {"model": model, "config": config, "device": device}.items():
            if value is not None:
                raise UsageError("not used with a STORE, so leave it out", argument=given)
        require("stores", "pandas")
        from memcram.report.explain import explain_page
        from memcram.report.stores import view_of_text

        view = view_of_text(place, text_id)
    else:
        if text_id is not None:
            problem = f"got {text_id!r}, but {source!r} is an archive of one text"
            raise UsageError(problem, argument="text_id")
        opened = open_archive(source, "source")
        from memcram.report.explain import explain_page, view_of_archive

        name = "standard input" if source == STREAM else place.name
        lm = open_model(opened, model, config, device)
        with progress_bar("decoding", unit="tokens", quiet=quiet) as show:
            view = view_of_archive(opened, lm, name, chunk_progress(show))
    write_output(output, explain_page(view))
    told = {"output": output, "tokens": len(view.pieces), "horizon": view.horizon}
    if output != STREAM:
        print_report(told, as_json=as_json)
