"""Serve the page on this machine alone, until Ctrl-C."""

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

# Before Gradio is imported, which reads them: nothing is reported to anybody.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import fastapi
import gradio
import uvicorn
from starlette.staticfiles import StaticFiles

from memcram.errors import UsageError
from memcram.ui import limits, study
from memcram.ui.guard import LOOPBACK, Guard
from memcram.ui.handlers import Handlers
from memcram.ui.jobs import Jobs
from memcram.ui.layout import build, theme
from memcram.ui.models import Models
from memcram.ui.panels import styles

_SHUTDOWN = 1  # second that open pages get


def application(
    models: Models, stores: Sequence[Path], folder: Path, jobs: Jobs
) -> fastapi.FastAPI:
    """Build the application of one server.

    Args:
        models: that pages offer.
        stores: studies whose report is shown.
        folder: for everything that is written.
        jobs: the work of all pages.

    Raises:
        UsageError: a store can't be read.
    """
    uploads = folder / "uploads"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    files = folder / "files"
    files.mkdir()
    report = study.StudyReport(stores, folder / "study")
    page = build(models, Handlers(models, files, jobs), report)
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount(study.PATH, StaticFiles(directory=folder / "study", check_dir=False))
    app.add_middleware(Guard, frames=study.PATH, uploads=uploads)
    return gradio.mount_gradio_app(
        app,
        page,
        "/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=limits.MAX_UPLOAD_BYTES,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        css=styles(),
    )


def serve(
    models: Models,
    stores: Sequence[Path],
    host: str,
    port: int,
    on_start: Callable[[str], None],
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        models: that it offers.
        stores: studies whose report it shows.
        host: one of `LOOPBACK`.
        port: 0 for a free one.
        on_start: called with the address of the page.

    Raises:
        UsageError: the host is another one, the port is in use, or a store can't be read.
    """
    if host not in LOOPBACK:
        raise UsageError(argument="host", got=host, allowed=", ".join(LOOPBACK))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"got {port}, which can't be used ({reason})", argument="port") from error
    jobs = Jobs()
    with listening, tempfile.TemporaryDirectory(prefix="memcram-ui-") as folder:
        app = application(models, stores, Path(folder), jobs)
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN)
        server = uvicorn.Server(config)
        # It would print a traceback for each page that is open when it ends.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
        on_start(f"http://{shown}:{listening.getsockname()[1]}/")
        try:
            server.run(sockets=[listening])
        finally:
            jobs.cancel_all()
