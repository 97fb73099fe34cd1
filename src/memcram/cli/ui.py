"""The command `ui`: a local page to try memcram."""

from pathlib import Path

import click

from memcram.cli import complete, options
from memcram.cli.command import Command
from memcram.cli.console import echo, print_json
from memcram.errors import require

DEFAULT_PORT = 7860


@click.command(cls=Command)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="MODEL",
    shell_complete=complete.models,
    help="A model to offer next to pocket: local folder, GGUF file or hub id; repeatable.",
)
@click.option(
    "--study",
    "stores",
    multiple=True,
    metavar="STORE|CSV",
    shell_complete=complete.files,
    help="A study whose report is shown; repeatable.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Address on this machine: 127.0.0.1, localhost or ::1.",
)
@click.option(
    "--port",
    type=options.WholeNumber(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    metavar="N",
    help="Port of the page; 0 chooses a free one.",
)
@options.stacked(options.device, options.json)
def ui(
    models: tuple[str, ...],
    stores: tuple[str, ...],
    host: str,
    port: int,
    device: str | None,
    as_json: bool,
) -> None:
    """Serve a local page to try memcram in a browser.

    Cram a text and watch it, open archives, see the report of a study, or look at a gallery of
    archives. The page offers pocket and each --model; a visitor can't name another one. Nothing is
    sent to other machines; only a hub id in --model is downloaded, when the command starts. Ctrl-C
    ends it.

    \b
    Examples:
      memcram ui
      memcram ui --model HuggingFaceTB/SmolLM2-135M --model gemma.gguf
      memcram ui --study pocket.study --port 8000
    """
    require("pages", "gradio", "pandas", "matplotlib", "jinja2", extra="ui")
    from memcram.ui.models import Models
    from memcram.ui.server import serve

    offered = Models(["pocket", *models], device)

    def tell(address: str) -> None:
        if as_json:
            print_json({"url": address, "models": offered.labels})
        else:
            echo(f"memcram is at {address} (Ctrl-C ends it)")

    try:
        serve(offered, [Path(store) for store in stores], host, port, tell)
    except KeyboardInterrupt:
        return
