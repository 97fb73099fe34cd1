"""Drawing helpers shared by several figures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from pandas import DataFrame

from memcram.report.style import LINES, MARKERS, Theme, places

MEAN = "bootstrap 95 % interval of the mean"


def series(place: int, theme: Theme) -> dict[str, Any]:
    """Colour, marker and dashes of line number `place`; after the last colour others go with it."""
    shifted = place + place // len(theme.series)
    return {
        "color": theme.series[place % len(theme.series)],
        "marker": MARKERS[shifted % len(MARKERS)],
        "linestyle": LINES[shifted % len(LINES)],
    }


def percent(axis: Axis) -> None:
    """Write the fractions of an axis as percentages."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))


def texts_per_mark(n: "pd.Series[int]") -> str:
    """How many texts each mark of a figure stands for, in words."""
    low, high = n.min(), n.max()
    return f"n = {low} texts per mark" if low == high else f"n = {low} to {high} texts per mark"


def scatter(
    axes: Axes, x: Any, y: Any, place: int, theme: Theme, *, hollow: bool, **options: Any
) -> None:
    """Draw marks in the style of line number `place`; `options` are those of matplotlib."""
    style = series(place, theme)
    face = "none" if hollow else style["color"]
    usual = {"marker": style["marker"], "s": 22, "facecolors": face, "edgecolors": style["color"]}
    axes.scatter(x, y, **usual | options)


def intervals(axes: Axes, x: Any, y: Any, place: int, theme: Theme, **ends: Any) -> None:
    """Draw error bars without marks; `ends` is `xerr` or `yerr`."""
    colour = series(place, theme)["color"]
    axes.errorbar(x, y, fmt="none", ecolor=colour, elinewidth=1.1, label="_interval", **ends)


def spread_evenly(values: Any, most: int) -> Any:
    """At most `most` of the values (an array or rows), evenly spaced, with first and last."""
    count = min(most, len(values))
    chosen = np.linspace(0, len(values) - 1, count).astype(int)
    return values.iloc[chosen] if isinstance(values, DataFrame) else values[chosen]


def largest(data: DataFrame, column: str) -> "pd.Series[Any]":
    """The row with the largest known value of a column."""
    known = data[data[column].notna()]
    return known.iloc[int(np.argmax(known[column].to_numpy(float)))]


def errors(mean: "pd.Series[Any]", low: "pd.Series[Any]", high: "pd.Series[Any]") -> list[Any]:
    """Lengths of error bars down and up; 0 where an interval is unknown."""
    return [end.astype(float).clip(lower=0).fillna(0.0) for end in (mean - low, high - mean)]


def note_at(
    axes: Axes, words: str, at: tuple[float, float], shift: tuple[int, int], **style: Any
) -> None:
    """Write small text at a point of the data, shifted by so many typographic points."""
    usual: Any = {"fontsize": 7.5, "va": "center", "textcoords": "offset points"}
    axes.annotate(words, at, xytext=shift, **usual | style)


def mark(marker: str, colour: str, face: str, label: str) -> Line2D:
    """Make a mark for the legend."""
    style: Any = {"linestyle": "", "marker": marker, "color": colour, "markerfacecolor": face}
    return Line2D([], [], label=label, **style)


def counted(data: DataFrame, column: str, rest: str) -> str:
    """Make a note that begins with the number of texts per mark, if it is known."""
    own = data.loc[~data["published"].astype(bool), column].dropna().astype(int)
    printed = bool(data["published"].astype(bool).any())
    if not len(own):
        return "as printed; the numbers of texts were not printed"
    return texts_per_mark(own) + rest + ("; hollow: as printed" if printed else "")


def titled(title: str, data: DataFrame) -> str:
    """A title with K, where all marks have the same."""
    vectors = data["vectors"].unique()
    return f"{title}, K = {vectors[0]:g}" if len(vectors) == 1 else title


def by_source(data: DataFrame) -> Iterator[tuple[str, DataFrame]]:
    """Rows of each text source, known ones first, each by increasing K."""
    index = places(list(data["source"]))
    for source in sorted(data["source"].unique(), key=index.__getitem__):
        yield source, data[data["source"] == source].sort_values("vectors")


def by_source_apart(data: DataFrame) -> Iterator[tuple[str, str, DataFrame]]:
    """Label, source and rows: what was measured apart from what was published."""
    for source, both in by_source(data):
        published = both["published"].astype(bool)
        for label, some in ((source, both[~published]), (f"{source}, published", both[published])):
            if len(some):
                yield label, source, some


def line_style(source: str, one: DataFrame, data: DataFrame, theme: Theme) -> dict[str, Any]:
    """Colour, marker and dashes of a source's line; hollow marks and no line where published.

    Args:
        source: of the line.
        one: rows of the line.
        data: all rows of the figure, which decide the colours of unknown sources.
        theme: colours.
    """
    style = series(places(list(data["source"]))[source], theme)
    if bool(one["published"].astype(bool).all()):
        style |= {"markerfacecolor": "none", "linestyle": "", "markersize": 8}
    return style


def ideal(axes: Axes, data: DataFrame, column: str, theme: Theme) -> None:
    """K times what the fewest vectors hold, of the source that holds most of them."""
    own = data[~data["published"].astype(bool)]
    data = own if len(own) else data
    if not len(data):
        return
    fewest = data[data["vectors"] == data["vectors"].min()]
    best = float(fewest[column].max()) / float(fewest["vectors"].iloc[0])
    ends = np.array([float(data["vectors"].min()), float(data["vectors"].max())])
    axes.plot(
        ends, best * ends, color=theme.muted, linewidth=1.1, linestyle=":", label="ideal: linear"
    )


def log_axes(axes: Axes, vectors: "pd.Series[Any]") -> None:
    """Logarithmic axes with a tick at each K that was measured."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted(vectors.unique())
    axes.xaxis.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    plain_ticks(axes, "x")
    plain_ticks(axes, "y")
    axes.set_xlabel("vectors K")


def plain_ticks(axes: Axes, which: str) -> None:
    """Whole numbers instead of powers of ten; the shorter a logarithmic axis, the more ticks."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    if axis.get_scale() != "log" or isinstance(axis.get_major_locator(), FixedLocator):
        return
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / max(low, 1e-9))
    steps = (1, 1.5, 2, 3, 4, 5, 7) if decades < 1 else (1, 2, 5) if decades < 2.2 else (1,)
    exponents = range(int(np.floor(np.log10(max(low, 1e-9)))), int(np.ceil(np.log10(high))) + 1)
    ticks = [step * 10.0**e for e in exponents for step in steps]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
