"""Write a report as a folder: index.html, figures, tables, and a page per text."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pandas import DataFrame

from memcram.errors import UsageError
from memcram.files import holds_files, new_folder
from memcram.metrics.tokens import ACCURACY_THRESHOLD
from memcram.report.data import ReportData, as_dicts, published_only
from memcram.report.drawing import spread_evenly
from memcram.report.explain import explain_page, view_of_record, visible
from memcram.report.horizons import horizon_table, published_horizons, with_published_horizons
from memcram.report.html import render
from memcram.report.overview import (
    horizon_blocks,
    key_numbers,
    measured_table,
    notices_of,
    subtitle_of,
    title_of,
)
from memcram.report.sections import Section, sections
from memcram.report.style import DARK, LIGHT, to_png, to_svg
from memcram.report.tables import published_table, table_1, with_published

MAX_TEXTS = 400
_MARK = '<meta name="generator" content="memcram">'
_PREVIEW = 60  # characters
_MOST_FIGURES = 6  # of a section, where the page contains them
OnPart = Callable[[str], None]


def check_folder(output: Path, *, force: bool) -> None:
    """Refuse an output folder before any work is done for it.

    Raises:
        UsageError: its parent is missing; it exists without `force`, or is not a report.
    """
    if not holds_files(output):
        return
    if not force:
        problem = f"{str(output)!r} exists"
        raise UsageError(problem, argument="output", force_to="replace the report")
    if not _is_report(output):
        problem = f"{str(output)!r} holds files that are not part of a report; choose another"
        raise UsageError(problem, argument="output")


def _is_report(folder: Path) -> bool:
    """Whether a folder holds a report and nothing else, so that it may be replaced."""
    known = {"index.html", "figures", "tables", "tokens"}
    index = folder / "index.html"
    return {one.name for one in folder.iterdir()} <= known and (
        index.is_file() and _MARK in index.read_text("utf-8", errors="replace")[:2000]
    )


def write_report(
    data: ReportData | None,
    output: Path,
    *,
    force: bool = False,
    max_texts: int = MAX_TEXTS,
    one_page: bool = False,
    on_part: OnPart | None = None,
    coders: DataFrame | None = None,
) -> Path:
    """Write a report, completely or not at all.

    Args:
        data: what was measured; None makes a report of the published values alone.
        output: folder to write; `index.html` in it opens from disk.
        force: replace an existing report.
        max_texts: number of texts with a page per token, spread evenly over the rows.
        one_page: put the figures into `index.html` and leave out the pages of texts, so that
            besides it there are only tables.
        on_part: called with the name of each part before it is made.
        coders: bytes of texts under each coder, from `coder_table`.

    Returns:
        The page.

    Raises:
        UsageError: the folder exists and may not be replaced, or can't be written.
    """
    check_folder(output, force=force)
    found = data or published_only()
    if coders is not None:
        found = replace(found, coders=coders)
    files = one_page_files(found, on_part) if one_page else report_files(found, max_texts, on_part)
    with new_folder(output, replace=True) as temporary:
        for name, content in files:
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    return output / "index.html"


@dataclass(frozen=True)
class _Parts:
    """Tables and sections of a report."""

    data: ReportData
    own: DataFrame
    table: DataFrame
    horizons: DataFrame
    sections: list[Section]

    @classmethod
    def of(cls, data: ReportData) -> "_Parts":
        own = table_1(data.rows)
        table = with_published(own, published_table())
        measured = horizon_table(data.rows)
        horizons = with_published_horizons(measured, published_horizons())
        has_capacities, has_horizons = len(own) > 0, len(measured) > 0
        if len(data.rows):  # published values of what was not measured say nothing here
            table, horizons = (
                table[: len(table) * has_capacities],
                horizons[: len(horizons) * has_horizons],
            )
        return cls(data, own, table, horizons, sections(data, table, horizons))

    def tables(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of each table."""
        named = {"table-1": self.table, "horizons": self.horizons, "bytes": self.data.coders}
        for name, table in named.items():
            if len(table):
                yield f"tables/{name}.csv", _csv(table)
        for section in self.sections:
            yield f"tables/{section.key}.csv", _csv(section.data)


def report_files(
    data: ReportData, max_texts: int = MAX_TEXTS, on_part: OnPart | None = None
) -> Iterator[tuple[str, bytes]]:
    """Path (relative, with /) and content of each file of a report."""
    tell = on_part or (lambda _: None)
    tell("tables")
    parts = _Parts.of(data)
    yield from parts.tables()
    for section in parts.sections:
        for drawn in section.figures:
            tell(drawn.name)
            light = drawn.draw(LIGHT)
            yield f"figures/{drawn.name}.svg", to_svg(light, LIGHT)
            yield f"figures/{drawn.name}.png", to_png(light, LIGHT)
            yield f"figures/{drawn.name}-dark.svg", to_svg(drawn.draw(DARK), DARK)
    texts = []
    tell("texts")
    for row in as_dicts(_spread_evenly(data.recorded, max_texts)):
        record = data.tokens(str(row["task"]))
        pieces = data.pieces(str(row["task"]), record.ids.tolist())
        view = view_of_record(row, record, pieces)
        name = _page_name(str(row["task"]))
        texts.append({**row, "file": name, "begins": _preview(pieces)})
        yield f"tokens/{name}", explain_page(view, home="../index.html")
    yield "index.html", _index(parts, texts, {})


def one_page_files(data: ReportData, on_part: OnPart | None = None) -> Iterator[tuple[str, bytes]]:
    """Path and content of the tables of a report, and of one page that contains its figures."""
    tell = on_part or (lambda _: None)
    tell("tables")
    parts = _Parts.of(data)
    yield from parts.tables()
    images = {}
    for section in parts.sections:
        for drawn in section.figures[:_MOST_FIGURES]:
            tell(drawn.name)
            svg = base64.b64encode(to_svg(drawn.draw(LIGHT), LIGHT)).decode()
            images[drawn.name] = f"data:image/svg+xml;base64,{svg}"
    yield "index.html", _index(parts, [], images)


def _index(parts: _Parts, texts: list[dict[str, Any]], images: dict[str, str]) -> bytes:
    data, rows = parts.data, parts.data.rows
    some = len(texts) < len(rows)
    return render(
        "report.html.j2",
        title=title_of(data),
        subtitle=subtitle_of(rows),
        notices=list(notices_of(data, parts.horizons)),
        measured=measured_table(rows),
        numbers=key_numbers(parts.own if len(rows) else parts.table, parts.horizons, rows),
        threshold=ACCURACY_THRESHOLD,
        tables=list(_blocks(parts.table)),
        horizons=list(horizon_blocks(parts.horizons)),
        coders=_coder_blocks(data.coders),
        sections=parts.sections,
        images=images,
        most_figures=_MOST_FIGURES,
        studies=data.studies,
        texts=texts,
        texts_words=f"{len(texts):,} of {len(rows):,} texts, spread evenly."
        if some
        else f"All {len(texts):,} texts.",
    )


def _blocks(table: DataFrame) -> Iterator[list[tuple[str, list[dict[str, Any]]]]]:
    """Blocks of a label each, with their rows: those measured here, and the others."""
    blocks = [(str(name), as_dicts(rows)) for name, rows in table.groupby("label", sort=False)]
    for only_published in (False, True):
        yield [
            block for block in blocks if all(row["published"] for row in block[1]) == only_published
        ]


def _coder_blocks(table: DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows of each model and source, under its heading."""
    if not len(table):
        return []
    groups = table.groupby(["model", "source"], sort=False)
    return [
        (f"{model}, {source}, n = {rows['n'].iloc[0]:,}", as_dicts(rows))
        for (model, source), rows in groups
    ]


def _spread_evenly(rows: DataFrame, most: int) -> DataFrame:
    """Select at most `most` rows, spread evenly over the table."""
    if not len(rows):
        return rows
    keys = ["label", "kind", "source", "vectors", "length", "text_id"]
    return DataFrame(spread_evenly(rows.sort_values(keys, kind="stable"), most))


def _page_name(task: str) -> str:
    """File name of a task; names that are not safe as file names are hashed."""
    safe = re.fullmatch(r"[0-9A-Za-z_-]{1,100}", task)
    return f"{task if safe else hashlib.sha256(task.encode()).hexdigest()}.html"


def _preview(pieces: list[str]) -> str:
    words = "".join(" " if piece.isspace() else piece for piece in pieces)[: 2 * _PREVIEW]
    shown = "".join(c if c == " " else visible(c) for c in words[:_PREVIEW])
    return shown + ("…" if len(words) > _PREVIEW else "")


def _csv(frame: DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()
