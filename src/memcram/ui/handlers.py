"""What the buttons of the page do; without Gradio, so that it can be called directly."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from memcram.errors import ArchiveError, MemcramError
from memcram.files import ARCHIVE_SUFFIX
from memcram.models import FrozenLM
from memcram.ui import gallery, limits
from memcram.ui.actions import Growing, Opened, cram_text, open_archive, write_files
from memcram.ui.jobs import Cancelled, Job, Jobs, Panel
from memcram.ui.models import Models
from memcram.ui.panels import live, note, problem, result

_log = logging.getLogger(__name__)
_CRAM, _OPEN, _GALLERY = "cram", "open", "gallery"  # panels of a page


@dataclass(frozen=True)
class Done:
    """An archive, and the files to download; they are removed once they are shown."""

    opened: Opened
    archive: Path
    adapter: Path | None
    adapter_problem: str


@dataclass(frozen=True)
class Shown:
    """What a page shows.

    Attributes:
        html: of the panel.
        running: whether there is something to stop.
        archive, adapter: files to download, None for none.
    """

    html: str
    running: bool = False
    archive: Path | None = None
    adapter: Path | None = None


class Handlers:
    """The buttons of all pages; a page is named by the session of its browser tab.

    Methods that yield what to show yield None for no change, because the panel shows a later run.

    Args:
        models: that pages offer.
        folder: for files to download.
        jobs: the work of all pages.
    """

    def __init__(self, models: Models, folder: Path, jobs: Jobs) -> None:
        self._models = models
        self._folder = folder
        self._jobs = jobs

    def cram(
        self, page: str, text: str | None, model: str, vectors: float | None, recipe: str
    ) -> Iterator[Shown | None]:
        """Cram a text; yields what to show."""

        def work(job: Job[Growing, Done], folder: Path) -> Done:
            checked, k = limits.checked_text(text), limits.checked_vectors(vectors)
            lm = self._models.load(model)
            return _done(cram_text(checked, lm, k, recipe, job), lm, folder)

        yield from self._run(Panel(page, _CRAM), work)

    def open_upload(self, page: str, path: str | None) -> Iterator[Shown | None]:
        """Decode an uploaded archive; yields what to show."""

        def work(job: Job[Growing, Done], folder: Path) -> Done:
            if path is None:
                raise ArchiveError("choose an archive first")
            name = _printable(Path(path).name)
            archive = limits.read_upload(Path(path).read_bytes(), name)
            lm = self._models.load_for(archive)
            return _done(open_archive(name, archive, lm, job), lm, folder)

        yield from self._run(Panel(page, _OPEN), work)

    def open_entry(self, page: str, name: str) -> Iterator[Shown | None]:
        """Decode an archive of the gallery; yields what to show."""
        entry = next(one for one in gallery.entries() if one.name == name)

        def work(job: Job[Growing, Done], folder: Path) -> Done:
            archive = limits.read_upload(entry.archive, entry.title)
            lm = self._models.load_for(archive)
            file = name + ARCHIVE_SUFFIX
            return _done(open_archive(file, archive, lm, job), lm, folder)

        source = note(f"Source: {entry.source}. An archive of {entry.model}.")
        for shown in self._run(Panel(page, _GALLERY), work):
            yield shown and replace(shown, html=source + shown.html)

    def stop(self, page: str) -> None:
        """End what a page crams, keeping what is held."""
        self._jobs.stop(Panel(page, _CRAM))

    def close(self, page: str) -> None:
        """End what a page runs; it was closed."""
        self._jobs.cancel(page)

    def _run(
        self, panel: Panel, work: Callable[[Job[Growing, Done], Path], Done]
    ) -> Iterator[Shown | None]:
        # Work that is cancelled may still write when its folder is removed.
        with tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder:
            job: Job[Growing, Done] = Job(lambda job: work(job, Path(folder)))
            self._jobs.begin(panel, job)
            try:
                yield Shown(note("Starting …"), running=True)
                for state in job.watch():
                    yield Shown(live(state), running=True)
            finally:
                is_latest = self._jobs.end(panel, job)
            yield _ended(job) if is_latest else None


def _ended(job: Job[Growing, Done]) -> Shown:
    try:
        done = job.result()
    except Cancelled:
        return Shown(note("Cancelled."))
    except MemcramError as error:
        return Shown(problem(error))
    except Exception:  # noqa: BLE001 - logged; the page must not be left waiting
        _log.exception("the page failed")
        return Shown(problem("this failed for a reason that the terminal of the page shows"))
    html = result(done.opened, done.adapter_problem)
    return Shown(html, archive=done.archive, adapter=done.adapter)


def _done(opened: Opened, lm: FrozenLM, folder: Path) -> Done:
    return Done(opened, *write_files(opened, lm, folder))


def _printable(name: str) -> str:
    """A file name for messages and downloads: short, and without invisible characters."""
    shown = "".join(one for one in name if one.isprintable())[-80:].lstrip(".")
    return shown or "archive"
