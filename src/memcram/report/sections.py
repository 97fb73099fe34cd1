"""Define the sections of a report in a table: the data of each, its groups and its figures."""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure
from pandas import DataFrame

from memcram.report import (
    ablation_data,
    ablation_figures,
    bars,
    figure_data,
    figures,
    prefixes,
    probe_data,
    probe_figures,
    token_figures,
)
from memcram.report.data import ReportData
from memcram.report.drawing import largest
from memcram.report.figure_data import Records
from memcram.report.style import Theme
from memcram.study.runfile import Progress


@dataclass(frozen=True)
class Drawn:
    """One figure: `name` of its files, alternative text, and how to draw it."""

    name: str
    alt: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class Section:
    """Figures that belong together, with the table that they are drawn from (`key`.csv).

    `header` and `rows` are a table of the page; a cell has words and small print.
    """

    key: str
    heading: str
    caption: str
    figures: tuple[Drawn, ...]
    data: DataFrame
    header: Sequence[str] = ()
    rows: Sequence[Sequence[tuple[str, str]]] = ()


@dataclass(frozen=True)
class _Inputs:
    """What sections are computed from."""

    rows: DataFrame
    table: DataFrame
    horizons: DataFrame
    records: Records
    recorded: DataFrame  # rows that have a token record
    progress: Callable[[Mapping[str, Any]], Progress | None]


@dataclass(frozen=True)
class _Picture:
    """One figure per group of a section's data.

    Attributes:
        draw: (data of the group, theme) → figure.
        words: computes what `{words}` stands for in the alternative text.
        only: the part of the group that is drawn; a group without any has no figure.
    """

    draw: Callable[..., Figure]
    words: Callable[[DataFrame], str] = lambda _: ""
    only: Callable[[DataFrame], DataFrame] = lambda data: data


@dataclass(frozen=True)
class _Plan:
    """A section before its data is known; its words are in captions.toml.

    Attributes:
        data: computes the table of the section.
        pictures: by the start of their file names.
        of: end of the file names, with the columns that the data is grouped by in braces; empty
            where the section has one group.
        header: of a table of the page.
        rows: computes the rows of that table from the data.
    """

    key: str
    data: Callable[[_Inputs], DataFrame]
    pictures: Mapping[str, _Picture]
    of: str = ""
    header: Sequence[str] = ()
    rows: Callable[[DataFrame], Sequence[Sequence[tuple[str, str]]]] = lambda _: ()

    def section(self, inputs: _Inputs) -> Section:
        data, words = self.data(inputs), _captions()[self.key]
        drawn = tuple(self._drawn(data, words["alt"])) if len(data) else ()
        rows = self.rows(data)
        return Section(self.key, words["heading"], words["caption"], drawn, data, self.header, rows)

    def _drawn(self, data: DataFrame, alts: Mapping[str, str]) -> Iterator[Drawn]:
        by = [name for name in ("label", "source", "vectors", "length") if f"{{{name}}}" in self.of]
        for values, group in data.groupby(by, sort=False) if by else [((), data)]:
            key: dict[str, Any] = dict(zip(by, values, strict=True))
            for start, picture in self.pictures.items():
                some = picture.only(group)
                if len(some):
                    name = f"{start}-{_file_name(self.of.format(**key))}" if by else start
                    alt = alts[start].format(**key, n=len(some), words=picture.words(some))
                    yield Drawn(name, alt.strip(), partial(picture.draw, _with_legend_names(some)))


@cache
def _captions() -> dict[str, Any]:
    """Heading, caption and alternative texts of each section."""
    text = files("memcram.report").joinpath("captions.toml").read_text("utf-8")
    found: dict[str, Any] = tomllib.loads(text)
    return found


def sections(data: ReportData, table: DataFrame, horizons: DataFrame) -> list[Section]:
    """All sections that have anything to draw.

    Args:
        data: what was measured, with labels; without rows for a report of published values alone.
        table: Table 1, including the published values.
        horizons: the table of mean horizons, including the published values.
    """
    inputs = _Inputs(data.rows, table, horizons, data.tokens, data.recorded, data.progress)
    plans = _TABLE_PLANS + (_ROW_PLANS if len(data.rows) else ())
    found = (plan.section(inputs) for plan in plans)
    return _with_unique_names([section for section in found if section.figures])


def _with_unique_names(found: list[Section]) -> list[Section]:
    """Number the later ones of figures with equal file names."""
    taken: set[str] = set()

    def unique(drawn: Drawn) -> Drawn:
        name, number = drawn.name, 1
        while name in taken:
            number += 1
            name = f"{drawn.name}-{number}"
        taken.add(name)
        return replace(drawn, name=name)

    return [replace(one, figures=tuple(map(unique, one.figures))) for one in found]


def _file_name(name: str) -> str:
    """Letters, digits, dots, underscores and dashes only; two names may become one."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in name)
    return plain.strip("-.").lower()


def _with_legend_names(data: DataFrame) -> DataFrame:
    """Hide a leading underscore of a source, which would keep it out of matplotlib's legends."""
    if "source" not in data:
        return data
    return data.assign(source=[f"\u200b{s}" if s.startswith("_") else s for s in data["source"]])


def _fewest_vectors(rows: DataFrame) -> DataFrame:
    return rows[rows["vectors"] == rows.groupby("label")["vectors"].transform("min")]


def _vectors_data(inputs: _Inputs) -> DataFrame:
    """Labels measured with several K; the published ones only where nothing was measured."""
    data = figure_data.vectors_data(inputs.table)
    own = set(data.loc[~data["published"].astype(bool), "label"]) or set(data["label"])
    varied = data[data["label"].isin(own)].groupby("label")["vectors"].nunique()
    return data[data["label"].isin(varied.index[varied > 1])]


def _learning_data(inputs: _Inputs) -> DataFrame:
    rows = inputs.recorded[inputs.recorded["kind"] == "capacity"]
    return figure_data.curves_data(_fewest_vectors(rows), inputs.records)


def _largest(column: str, unit: str) -> Callable[[DataFrame], str]:
    def words(data: DataFrame) -> str:
        if not data[column].notna().any():
            return ""
        best = largest(data, column)
        return f"The largest: {best[column]:,.4g} {unit} ({best['label']}, {best['source']})."

    return words


def _with(column: str) -> Callable[[DataFrame], DataFrame]:
    """The group if any of its rows has a value."""
    return lambda data: data if data[column].notna().any() else data[:0]


def _of_values(draw: Callable[..., Figure], key: str, *values: str) -> dict[str, _Picture]:
    """One figure per column, left out where the column is empty."""
    return {
        f"{key}-{value.replace('_', '-')}": _Picture(partial(draw, value=value), only=_with(value))
        for value in values
    }


def _with_several_gains(data: DataFrame) -> DataFrame:
    known = data[data["information_gain_nats"].notna()]
    return data if known["vectors"].nunique() > 1 else data[:0]


_TABLE_PLANS = (
    _Plan(
        "horizon-means",
        lambda given: figure_data.horizon_means_data(given.horizons),
        {"horizon-means": _Picture(bars.horizon_means, _largest("horizon_tokens", "tokens"))},
        "{label}-k{vectors}",
    ),
    _Plan(
        "horizon-growth",
        lambda given: figure_data.growth_data(given.rows, given.horizons, given.progress),
        {"horizon-growth": _Picture(token_figures.growth, _largest("held", "tokens"))},
        "{label}-k{vectors}",
    ),
    _Plan(
        "figure-1",
        lambda given: figure_data.max_tokens_data(given.table),
        {"figure-1": _Picture(bars.max_tokens, _largest("max_tokens", "tokens"))},
    ),
    _Plan(
        "figure-5",
        lambda given: figure_data.bound_data(given.table),
        {
            "figure-5-bound": _Picture(
                figures.bound_against_gain, _largest("token_gain", "tokens gained")
            ),
            "figure-5-utilisation": _Picture(
                bars.utilisation,
                _largest("utilisation", "of the bound"),
                lambda data: data[data["source"] != "fanfics"].reset_index(drop=True),
            ),
        },
    ),
    _Plan(
        "bits-per-dimension",
        lambda given: figure_data.dimension_data(given.table),
        {
            "bits-per-dimension": _Picture(
                figures.bits_per_dimension, _largest("bits_per_dimension", "bits per dimension")
            )
        },
    ),
    _Plan(
        "figure-4",
        _vectors_data,
        {
            "figure-4": _Picture(
                figures.capacity_by_vectors, _largest("max_tokens", "tokens"), _with("max_tokens")
            ),
            "figure-4-gain": _Picture(
                figures.gain_by_vectors,
                _largest("information_gain_nats", "nats"),
                _with_several_gains,
            ),
        },
        "{label}",
    ),
)
_CELL = "{label}-k{vectors}-{length}"
_ROW_PLANS = (
    _Plan(
        "figure-3",
        lambda given: _fewest_vectors(figure_data.cross_entropy_data(given.rows)),
        {"figure-3": _Picture(figures.cross_entropy)},
        "{label}",
    ),
    _Plan(
        "horizon-curves",
        lambda given: figure_data.horizons_data(given.rows),
        {"horizon-curves": _Picture(token_figures.horizons)},
        "{label}-k{vectors}",
    ),
    _Plan(
        "learning-curves",
        _learning_data,
        {
            "learning-curves": _Picture(
                token_figures.learning_curves, lambda data: str(data["task"].nunique())
            )
        },
        "{label}",
    ),
    _Plan(
        "accuracy-by-position",
        lambda given: figure_data.positions_data(given.recorded, given.records),
        {"accuracy-by-position": _Picture(token_figures.accuracy_by_position)},
        "{label}",
    ),
    _Plan(
        "horizon-surprisal",
        lambda given: ablation_data.surprisal_data(given.rows),
        {
            "horizon-surprisal": _Picture(
                ablation_figures.surprisal, ablation_figures.correlation_words
            )
        },
        "{label}-k{vectors}",
    ),
    _Plan(
        "context",
        lambda given: ablation_data.context_data(given.rows),
        _of_values(ablation_figures.context, "context", "nats_a_token", "right"),
        "{label}-{source}-{length}",
    ),
    _Plan(
        "depth",
        lambda given: ablation_data.depth_data(given.rows),
        {"depth": _Picture(ablation_figures.depth)},
        "{label}-k{vectors}",
    ),
    _Plan(
        "prefix",
        lambda given: prefixes.prefix_data(given.rows),
        {"prefix": _Picture(prefixes.prefixes, prefixes.prefix_words)},
        "{label}-{source}-k{vectors}",
    ),
    _Plan(
        "repeat",
        lambda given: ablation_data.repeat_data(given.recorded, given.records),
        _of_values(ablation_figures.halves, "repeat", "accuracy", "nats_a_token", "horizon"),
        "{label}-{source}-k{vectors}",
    ),
    _Plan(
        "seeds-pairs",
        lambda given: ablation_data.pairs_data(given.recorded, given.records),
        _of_values(ablation_figures.pairs, "seeds", "cosine", "distance"),
        _CELL,
    ),
    _Plan(
        "seeds-pca",
        lambda given: ablation_data.pca_data(given.recorded, given.records),
        {"seeds-pca": _Picture(ablation_figures.pca)},
        _CELL,
    ),
    _Plan(
        "seeds-path",
        lambda given: ablation_data.path_data(given.recorded, given.records),
        {"seeds-path": _Picture(ablation_figures.path, ablation_figures.path_words)},
        _CELL,
    ),
    _Plan(
        "seeds-line",
        lambda given: ablation_data.line_data(given.rows),
        {"seeds-line": _Picture(ablation_figures.line)},
        _CELL,
    ),
    _Plan(
        "probe",
        lambda given: probe_data.probe_data(given.recorded, given.records),
        {"probe": _Picture(probe_figures.probe, probe_figures.words)},
        "{label}-{source}-k{vectors}",
        probe_data.SUMMARY_HEADER,
        probe_data.summary,
    ),
)
