"""Write a report as a folder: index.html, figures, tables, and a page per text."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.errors import UsageError
from memcram.files import holds_files, new_folder
from memcram.metrics.tokens import ACCURACY_THRESHOLD
from memcram.report.data import ReportData, as_dicts, published_only
from memcram.report.drawing import largest, spread_evenly
from memcram.report.explain import explain_page, view_of_record, visible
from memcram.report.html import figure_of, is_missing, render
from memcram.report.sections import Section, sections
from memcram.report.style import DARK, LIGHT, to_png, to_svg
from memcram.report.tables import (
    horizon_table,
    published_horizons,
    published_table,
    table_1,
    with_published,
)

MAX_TEXTS = 400
_MARK = '<meta name="generator" content="memcram">'
_PREVIEW = 60  # characters
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
    on_part: OnPart | None = None,
) -> Path:
    """Write a report, completely or not at all.

    Args:
        data: what was measured; None makes a report of the published values alone.
        output: folder to write; `index.html` in it opens from disk.
        force: replace an existing report.
        max_texts: number of texts with a page per token, spread evenly over the rows.
        on_part: called with the name of each part before it is made.

    Returns:
        The page.

    Raises:
        UsageError: the folder exists and may not be replaced, or can't be written.
    """
    check_folder(output, force=force)
    with new_folder(output, replace=True) as temporary:
        for name, content in report_files(data or published_only(), max_texts, on_part):
            path = temporary / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    return output / "index.html"


def report_files(
    data: ReportData, max_texts: int = MAX_TEXTS, on_part: OnPart | None = None
) -> Iterator[tuple[str, bytes]]:
    """Path (relative, with /) and content of each file of a report."""
    tell = on_part or (lambda _: None)
    tell("tables")
    own = table_1(data.rows)
    table = with_published(own, published_table())
    horizons = with_published(horizon_table(data.rows), published_horizons())
    yield "tables/table-1.csv", _csv(table)
    yield "tables/horizons.csv", _csv(horizons)
    found = sections(data.rows, table, horizons, data.tokens)
    for section in found:
        yield f"tables/{section.key}.csv", _csv(section.data)
        for drawn in section.figures:
            tell(drawn.name)
            light = drawn.draw(LIGHT)
            yield f"figures/{drawn.name}.svg", to_svg(light, LIGHT)
            yield f"figures/{drawn.name}.png", to_png(light, LIGHT)
            yield f"figures/{drawn.name}-dark.svg", to_svg(drawn.draw(DARK), DARK)
    texts = []
    tell("texts")
    for row in as_dicts(_spread_evenly(data.rows, max_texts)):
        record = data.tokens(str(row["task"]))
        pieces = data.pieces(str(row["task"]), record.ids.tolist())
        view = view_of_record(row, record, pieces)
        name = _page_name(str(row["task"]))
        texts.append({**row, "file": name, "begins": _preview(pieces)})
        yield f"tokens/{name}", explain_page(view, home="../index.html")
    yield "index.html", _index(data, table, own, horizons, found, texts)


def _index(
    data: ReportData,
    table: DataFrame,
    own: DataFrame,
    horizons: DataFrame,
    found: list[Section],
    texts: list[dict[str, Any]],
) -> bytes:
    some = len(texts) < len(data.rows)
    return render(
        "report.html.j2",
        title=_title(data),
        subtitle=_subtitle(data.rows),
        notices=[*_notices(data), *_budget_notice(horizons)],
        numbers=key_numbers(own if len(own) else table, data.rows),
        threshold=ACCURACY_THRESHOLD,
        tables=list(_blocks(table)),
        horizons=horizons.to_dict("records"),
        sections=found,
        studies=data.studies,
        texts=texts,
        texts_words=f"{len(texts):,} of {len(data.rows):,} texts, spread evenly."
        if some
        else f"All {len(texts):,} texts.",
    )


def _title(data: ReportData) -> str:
    names = [part.name for part in data.studies]
    return (
        f"What fits into [mem]: {', '.join(names)}" if names else "What fits into [mem]: published"
    )


def _subtitle(rows: DataFrame) -> str:
    if not len(rows):
        return "The published values alone; nothing was measured here."
    counts = [
        (len(rows), "texts crammed and measured"),
        (rows["model"].nunique(), "models"),
        (rows["recipe"].nunique(), "recipes"),
        (rows["source"].nunique(), "text sources"),
    ]
    words = [f"{n:,} {what[:-1] if n == 1 and what[-1] == 's' else what}" for n, what in counts]
    return ", ".join(words) + f": {', '.join(sorted(rows['source'].unique()))}."


def _notices(data: ReportData) -> Iterator[str]:
    for part in data.unfinished:
        failed = f"; {part.failed:,} failed" if part.failed else ""
        yield (
            f"Unfinished: {part.name} has {len(part.rows):,} of {part.planned:,} texts{failed}. "
            "Everything below is based on these."
        )
    if len(data.rows) and data.rows["recipe"].nunique() > 1:
        names = ", ".join(sorted(data.rows["recipe"].unique()))
        yield f"Several recipes, shown separately: {names}."


def _budget_notice(horizons: DataFrame) -> Iterator[str]:
    known = horizons.dropna(subset=["budget_ended"])
    ended = int(known["budget_ended"].sum())
    if ended:
        yield (
            f"The budget ended {ended:,} of {int(known['n'].sum()):,} texts whose horizons were "
            "measured: their means are lower bounds. A larger budget may give more."
        )


def key_numbers(table: DataFrame, rows: DataFrame) -> list[dict[str, str]]:
    """Key numbers of the fewest vectors: value, unit and words.

    Args:
        table: Table 1 of what was measured, or the published one.
        rows: the results table; empty for published values.
    """
    numbers = []
    if len(table):
        fewest = table[table["vectors"] == table["vectors"].min()]
        for column, unit, words in (
            ("max_tokens", "tokens", "in {k}: maximum at teacher-forced accuracy ≥ 0.99"),
            ("information_gain_nats", "nats", "mean information gain of {k}"),
            ("token_gain", "tokens", "mean token gain of {k}"),
        ):
            if fewest[column].notna().any():
                numbers.append(_number(largest(fewest, column), column, unit, words))
    if len(rows):
        shown = f"{int(rows['exact'].sum()):,} of {len(rows):,}"
        numbers.append(
            {"value": shown, "unit": "texts", "words": "exact: decoded completely, free-running"}
        )
    return numbers


def _number(row: "pd.Series[Any]", column: str, unit: str, words: str) -> dict[str, str]:
    k = "one vector" if row["vectors"] == 1 else f"{row['vectors']} vectors"
    low = row.get(f"{column}_low")
    interval = "" if is_missing(low) else f" [{figure_of(low)}, {figure_of(row[column + '_high'])}]"
    if column == "information_gain_nats":
        bits, each = row["information_gain_bits"], row["bits_per_dimension"]
        unit = f"nats{interval} = {figure_of(bits)} bits = {figure_of(each)} bits per dimension"
    else:
        unit = f"{unit}{interval}"
    of = f"{row['label']}, {row['source']}" + (", published" if row["published"] else "")
    return {"value": figure_of(row[column]), "unit": unit, "words": f"{words.format(k=k)} ({of})"}


def _blocks(table: DataFrame) -> Iterator[list[tuple[str, list[dict[str, Any]]]]]:
    """Blocks of a label each, with their rows: those measured here, and the others."""
    blocks = [(str(name), as_dicts(rows)) for name, rows in table.groupby("label", sort=False)]
    for only_published in (False, True):
        yield [
            block for block in blocks if all(row["published"] for row in block[1]) == only_published
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
