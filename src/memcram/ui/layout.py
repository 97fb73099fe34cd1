"""The page as Gradio builds it: four tabs, and which button calls which handler."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from memcram.ui import gallery, limits
from memcram.ui.actions import recipe_names
from memcram.ui.handlers import Handlers, Shown
from memcram.ui.models import Models
from memcram.ui.panels import note
from memcram.ui.study import StudyReport

# Events of all tabs that run a model share one limit; the others need no queue.
_RUNS = {
    "concurrency_id": "model",
    "concurrency_limit": limits.MAX_JOBS,
    "api_visibility": "private",
    "show_progress": "minimal",
}
_AT_ONCE = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

_HEAD = """\
<div class="mc-head"><h1>memcram</h1>
<p>Cram a text into a few input vectors of a frozen language model, and decode it exactly.</p></div>
"""


def theme() -> gr.themes.Base:
    """A plain theme with the fonts of the reader's system."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "DejaVu Sans Mono", "Liberation Mono", "Menlo", "monospace"]
    return gr.themes.Base(
        primary_hue="slate",
        neutral_hue="gray",
        radius_size="sm",
        text_size="md",
        font=sans,
        font_mono=mono,
    )


def build(models: Models, handlers: Handlers, study: StudyReport) -> gr.Blocks:
    """Build the page.

    Args:
        models: that visitors choose from.
        handlers: what the buttons do.
        study: the report of the third tab.
    """

    def close(request: gr.Request) -> None:
        handlers.close(request.session_hash)

    with gr.Blocks(
        title="memcram", analytics_enabled=False, delete_cache=(3600, 86_400), fill_width=True
    ) as page:
        gr.HTML(_HEAD, padding=False)
        with gr.Tab("Cram"):
            _cram_tab(models, handlers)
        with gr.Tab("Open"):
            _open_tab(handlers)
        with gr.Tab("Study") as tab:
            _study_tab(tab, study)
        with gr.Tab("Gallery"):
            _gallery_tab(handlers)
        page.unload(close)
    page.queue(max_size=limits.MAX_WAITING, default_concurrency_limit=limits.MAX_JOBS)
    return page


class _Panel:
    """Where a result is shown, with its buttons."""

    def __init__(self, text: str) -> None:
        self.html = gr.HTML(note(text), padding=False)
        with gr.Row():
            hidden = {"visible": False, "size": "md", "scale": 0, "min_width": 240}
            self.archive = gr.DownloadButton("Download archive", **hidden)
            self.adapter = gr.DownloadButton("Download PEFT adapter", **hidden)

    @property
    def outputs(self) -> list[Any]:
        return [self.html, self.archive, self.adapter]

    def values(self, shown: Shown | None) -> list[Any]:
        """Values of `outputs`."""
        if shown is None:
            return [gr.skip()] * len(self.outputs)
        files = [shown.archive, shown.adapter]
        updates = [gr.update(value=path and str(path), visible=path is not None) for path in files]
        return [shown.html, *updates]


def _cram_tab(models: Models, handlers: Handlers) -> None:
    samples = {one.title: one.text for one in gallery.entries()}
    limit = f"Up to {limits.MAX_TEXT_BYTES:,} bytes."
    typed = gr.Textbox(label="Text", info=limit, lines=6, max_lines=14)
    with gr.Row():
        sample = gr.Dropdown(list(samples), label="Or a sample", value=None, min_width=150)
        model = gr.Dropdown(models.labels, label="Model", value=models.labels[0], min_width=150)
        vectors = gr.Number(1, label="Vectors (K)", precision=0, min_width=150)
        recipe = gr.Dropdown(recipe_names(), label="Recipe", value="default", min_width=150)
    with gr.Row():
        start = gr.Button("Cram", variant="primary", scale=0, min_width=150)
        stop = gr.Button("Stop", interactive=False, scale=0, min_width=150)
    panel = _Panel("Paste a text or choose a sample, then press Cram.")

    def cram(
        text: str, model: str, vectors: float, recipe: str, request: gr.Request
    ) -> Iterator[list[Any]]:
        for shown in handlers.cram(request.session_hash, text, model, vectors, recipe):
            running = shown is not None and shown.running
            buttons = [gr.update(interactive=one) for one in (not running, running)]
            yield [*panel.values(shown), *buttons]

    def stopped(request: gr.Request) -> None:
        handlers.stop(request.session_hash)

    sample.input(lambda title: samples.get(title, ""), sample, typed, **_AT_ONCE)
    inputs = [typed, model, vectors, recipe]
    start.click(cram, inputs, [*panel.outputs, start, stop], **_RUNS)
    stop.click(stopped, None, None, **_AT_ONCE)


def _open_tab(handlers: Handlers) -> None:
    file = gr.File(label="Archive (.mem.safetensors)", height=140)
    size = limits.MAX_UPLOAD_BYTES // 2**20
    panel = _Panel(f"Choose an archive of up to {size} MiB; it is decoded and checked here.")

    def opened(path: str | None, request: gr.Request) -> Iterator[list[Any]]:
        for shown in handlers.open_upload(request.session_hash, path):
            yield panel.values(shown)

    file.upload(opened, file, panel.outputs, trigger_mode="multiple", **_RUNS)


def _study_tab(tab: gr.Tab, study: StudyReport) -> None:
    frame = gr.HTML(padding=False)
    again = gr.Button("Draw again", size="md", scale=0, min_width=150, visible=study.has_stores)
    drawing = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 1}
    tab.select(study.show, None, frame, **drawing)
    again.click(partial(study.show, again=True), None, frame, **drawing)


def _gallery_tab(handlers: Handlers) -> None:
    entries = gallery.entries()
    gr.HTML(note("Ready archives; a click decodes one."), padding=False)
    with gr.Row(elem_classes="mc-gallery"):
        buttons = [gr.Button(one.title, size="md", min_width=0) for one in entries]
    panel = _Panel("")

    def opener(name: str) -> Callable[[gr.Request], Iterator[list[Any]]]:
        def opened(request: gr.Request) -> Iterator[list[Any]]:
            for shown in handlers.open_entry(request.session_hash, name):
                yield panel.values(shown)

        return opened

    for button, one in zip(buttons, entries, strict=True):
        button.click(opener(one.name), None, panel.outputs, **_RUNS)
