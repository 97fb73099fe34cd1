"""Horizontal bars in blocks: a block for each label, in it a bar for each text source."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from memcram.report.style import HATCHES, Theme, new_figure, places

_BAR = 0.8  # of a bar's room

# Ends of a bar's thin line (None: no line) and what is written at its end.
Described = tuple[float | None, float | None, str]


def draw_bars(
    data: DataFrame, value: str, theme: Theme, describe: Callable[[Any], Described]
) -> tuple[Figure, Axes]:
    """Draw `value` of each row, the smallest model on top; published rows are hollow.

    Args:
        data: columns `label`, `source`, `published`, `parameters` and `value`.
        value: name of the column; an empty value has no bar, only its words.
        theme: colours.
        describe: what a row's thin line spans, and its words.
    """
    order = data.sort_values("parameters", kind="stable")["label"].drop_duplicates().tolist()
    index = places(list(data["source"]))
    figure, axes = new_figure(height=1.5 + 0.19 * len(data) + 0.1 * len(order))
    y, ticks, labelled = 0.0, [], set()
    for name in order:
        block = data[data["label"] == name]
        rank = block["source"].map(index) + 100 * block["published"].astype(bool)
        start = y
        for _, row in block.loc[rank.sort_values(kind="stable").index].iterrows():
            label = f"{row['source']}, published" if row["published"] else str(row["source"])
            shown = f"_{label}" if label in labelled else label  # once in the legend
            labelled.add(label)
            _draw_bar(axes, y, row, value, shown, index[row["source"]], theme)
            _describe_bar(axes, y, row[value], describe(row), theme)
            y += 1
        ticks.append((start + y - 1) / 2)
        y += 0.5
    axes.set_yticks(ticks, order)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 0.6, -0.9)
    axes.grid(visible=False, axis="y")
    return figure, axes


def bar_handles(axes: Axes) -> list[Artist]:
    """The bars of the legend, so that a source and its published values share a column."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    sources = sorted({label.partition(", ")[0] for label in found})
    if not any(source in found for source in sources):
        return [found[label] for label in sorted(found)]
    blank = Line2D([], [], linestyle="", label=" ")
    pairs = [(source, f"{source}, published") for source in sources]
    published = any(second in found for _, second in pairs)
    return [found.get(label, blank) for pair in pairs for label in pair[: 1 + published]]


def _draw_bar(
    axes: Axes, y: float, row: "pd.Series[Any]", value: str, label: str, place: int, theme: Theme
) -> None:
    colour, hollow = theme.series[place], bool(row["published"])
    axes.barh(
        y,
        0.0 if pd.isna(row[value]) else float(row[value]),
        height=_BAR,
        label=label,
        facecolor="none" if hollow else colour,
        edgecolor=colour if hollow else theme.ground,
        linewidth=1.2 if hollow else 0.0,
        hatch=HATCHES[place],
    )


def _describe_bar(axes: Axes, y: float, value: float, described: Described, theme: Theme) -> None:
    low, high, words = described
    end = 0.0 if pd.isna(value) else float(value)
    if low is not None and high is not None and high > low:
        axes.plot([low, high], [y, y], color=theme.ink, linewidth=1.2, label="_interval")
        end = max(end, high)
    # An empty bar on a logarithmic axis has no place of its own: its words stand at the left edge.
    at = (end, y) if end > 0 else (0.0, y)
    coords = "data" if end > 0 else axes.get_yaxis_transform()
    axes.annotate(
        words,
        at,
        xycoords=coords,
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=7.5,
    )
