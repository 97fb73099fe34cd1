"""The report of the studies that were named when the page was started."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from memcram.errors import MemcramError
from memcram.report.page import write_report
from memcram.report.stores import load_stores
from memcram.ui.jobs import Job
from memcram.ui.panels import note, problem, report_frame

PATH = "/study/"
"""Where the server offers the report."""


class StudyReport:
    """Writes one report for all pages.

    Args:
        stores: folders of stores, or CSV files of `memcram study export`; may be empty.
        folder: where the report is written; does not exist yet.

    Raises:
        UsageError: a store can't be read, or none has a row.
    """

    def __init__(self, stores: Sequence[Path], folder: Path) -> None:
        if stores:
            load_stores(stores)
        self.folder = folder
        self._stores = stores
        self._lock = threading.Lock()

    @property
    def has_stores(self) -> bool:
        """Whether there is a study to show."""
        return bool(self._stores)

    def show(self, *, again: bool = False) -> Iterator[str]:
        """Yield HTML: what is being drawn, then the report.

        Args:
            again: draw a report that was drawn already.
        """
        if not self._stores:
            yield note(
                "No study was named when this page was started; see the help of the command."
            )
            return
        if again or not self._is_drawn():
            job: Job[str, Path] = Job(lambda job: self._draw(job, again=again))
            yield note("Reading the study …")
            job.start()
            for part in job.watch():
                yield note(f"Drawing {part} …")
            try:
                job.result()
            except MemcramError as error:
                yield problem(error)
                return
        yield report_frame(PATH + "index.html")

    def _draw(self, job: Job[str, Path], *, again: bool) -> Path:
        with self._lock:
            if not again and self._is_drawn():  # by another page, in the meantime
                return self.folder
            return write_report(
                load_stores(self._stores), self.folder, force=True, on_part=job.report
            )

    def _is_drawn(self) -> bool:
        return (self.folder / "index.html").is_file()
