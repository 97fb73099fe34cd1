"""Draw figures of horizontal bars: a block per label, with a bar per text source."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from memcram.metrics.tokens import ACCURACY_THRESHOLD as THRESHOLD
from memcram.report.drawing import MEAN, counted, note_at, percent, plain_ticks, titled
from memcram.report.style import (
    BESIDE_LABELS,
    HATCHES,
    LIGHT,
    LINE,
    Theme,
    applied,
    finish,
    n_lines,
    new_figure,
    places,
    wrapped,
)

_BAR = 0.8  # height of a bar; the distance between bars is 1
_ROW = 0.19  # inches: distance between bars
_GAP = 0.5  # between blocks, in rows
_LOG_FROM = 25  # largest / smallest from which an axis of token counts is logarithmic

# Ends of a bar's thin line (None: no line) and what is written at its end.
Described = tuple[float | None, float | None, str]


def max_tokens(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Figure 1: decoding capacity (tokens) of each model, a bar per source; published hollow.

    The thin line ends at the next measured length, which failed: the capacity lies between.
    """

    def describe(row: Any) -> Described:
        if pd.isna(row.max_tokens):
            return None, None, f"< {row.next_tokens:,.0f}"
        words = f"{row.max_tokens:,.0f}"
        if row.published or not pd.isna(row.next_tokens):
            return row.max_tokens, row.next_tokens, words
        return None, None, f"≥ {words}, the longest tried"

    with applied(theme):
        figure, axes = draw_bars(data, "max_tokens", theme, describe)
        _token_axis(axes, data["max_tokens"], data["next_tokens"].max(), room=1.2)
        axes.set_xlabel(f"tokens (mean teacher-forced accuracy ≥ {THRESHOLD})", loc="right")
        axes.set_title(titled("Max tokens", data))
        thin = "thin line: up to the next length, which failed"
        return finish(
            figure,
            theme,
            counted(data, "n", f"; {thin}"),
            3,
            bar_handles(axes),
            title_characters=BESIDE_LABELS,
        )


def utilisation(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Figure 5b: token gain / capacity bound of each model, a bar per source; published hollow."""

    def describe(row: Any) -> Described:
        known = not pd.isna(row.utilisation_low)
        ends = (row.utilisation_low, row.utilisation_high) if known else (None, None)
        return *ends, f"{100 * row.utilisation:.3g} %"

    with applied(theme):
        figure, axes = draw_bars(data, "utilisation", theme, describe)
        most = max([*data["utilisation"], *data["utilisation_high"].dropna()])
        axes.set_xlim(0, most * 1.2)
        percent(axes.xaxis)
        axes.set_xlabel("token gain / capacity bound (16 bits per coordinate)", loc="right")
        axes.set_title(titled("Utilisation", data))
        return finish(
            figure,
            theme,
            counted(data, "gain_n", f"; line: {MEAN}"),
            3,
            bar_handles(axes),
            title_characters=BESIDE_LABELS,
        )


def horizon_means(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Mean exact horizons (tokens), one model and K: a bar per recipe and source.

    Published values are hollow; a dotted line marks the largest of them next to measured ones.
    """

    def describe(row: Any) -> Described:
        words = _tokens(row.horizon_tokens)
        if row.published:
            known = not pd.isna(row.horizon_tokens_std)
            return None, None, f"{words} ± {_tokens(row.horizon_tokens_std)}" if known else words
        ended = 0 if pd.isna(row.budget_ended) else row.budget_ended
        bound = "≥ " if row.censored_share or ended else ""
        return row.horizon_tokens_low, row.horizon_tokens_high, f"{bound}{words}"

    published = data["published"].astype(bool)
    with applied(theme):
        figure, axes = draw_bars(data, "horizon_tokens", theme, describe, by="name")
        _token_axis(axes, data["horizon_tokens"], data["horizon_tokens_high"].max(), room=1.4)
        axes.set_xlabel("mean exact horizon (tokens)", loc="right")
        axes.set_title(titled(f"{data['label'].iloc[0]}: horizons", data))
        note = f"own values: line: {MEAN}; ≥: texts or budget ended first{_ended(data)}"
        if published.any():
            note += (
                "; hollow: published, PG-19, ± standard deviation; tarasov2026-repo: 10,000 steps"
            )
            note += " per text, teacher-forced"
        if published.any() and not published.all():
            best = float(data.loc[published, "horizon_tokens"].max())
            axes.axvline(best, color=theme.muted, linewidth=1.0, linestyle=":", label="_published")
        return finish(figure, theme, note, 3, bar_handles(axes), title_characters=BESIDE_LABELS)


def _tokens(value: float) -> str:
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def _ended(data: DataFrame) -> str:
    """How many texts the budget ended, in words for a note."""
    known = data.dropna(subset=["budget_ended"])
    ended = int(known["budget_ended"].sum())
    return f" (budget: {ended} of {int(known['n'].sum())} texts)" if ended else ""


def _token_axis(axes: Axes, values: "pd.Series[Any]", high: float, room: float) -> None:
    """Scale the axis, logarithmic if values span decades; `room` is left for the labels."""
    reached = values.dropna()
    largest = max([*reached, *([] if pd.isna(high) else [high])], default=1.0)
    if len(reached) and largest / reached.min() > _LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(1, largest**room)
        plain_ticks(axes, "x")
        axes.set_xticks([10.0**n for n in range(1 + int(np.log10(largest)))])
    else:
        axes.set_xlim(0, largest * (room + 0.05))
        plain_ticks(axes, "x")


def draw_bars(
    data: DataFrame,
    value: str,
    theme: Theme,
    describe: Callable[[Any], Described],
    by: str = "label",
) -> tuple[Figure, Axes]:
    """Draw `value` of each row; published rows are hollow.

    Args:
        data: columns `source`, `published`, `parameters`, `value` and the one named in `by`.
        value: name of the column; an empty value has no bar, only its words.
        theme: colours.
        describe: what a row's thin line spans, and its words.
        by: column of the blocks' names; labels have the smallest model on top, others the order of
            `data`.
    """
    ordered = data.sort_values("parameters", kind="stable") if by == "label" else data
    order = ordered[by].drop_duplicates().tolist()
    index = places(list(data["source"]))
    blocks = [data[data[by] == name] for name in order]
    labels = [wrapped(name) for name in order]
    # A block is as high as its bars, or as the lines of its label.
    heights = [
        max(float(len(block)), n_lines(label) * LINE / _ROW)
        for block, label in zip(blocks, labels, strict=True)
    ]
    figure, axes = new_figure(height=1.5 + _ROW * (sum(heights) + _GAP * len(order)))
    top, ticks, labelled = -0.5, [], set()
    for block, height in zip(blocks, heights, strict=True):
        rank = block["source"].map(index) + 100 * block["published"].astype(bool)
        y = top + (height - len(block) + 1) / 2
        for _, row in block.loc[rank.sort_values(kind="stable").index].iterrows():
            label = f"{row['source']}, published" if row["published"] else str(row["source"])
            shown = f"_{label}" if label in labelled else label  # once in the legend
            labelled.add(label)
            _draw_bar(axes, y, row, value, shown, index[row["source"]], theme)
            _describe_bar(axes, y, row[value], describe(row), theme)
            y += 1
        ticks.append(top + height / 2)
        top += height + _GAP
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(top - _GAP + 0.4, -0.9)
    axes.grid(visible=False, axis="y")
    return figure, axes


def bar_handles(axes: Axes) -> list[Artist]:
    """Make the legend's bars; a source and its published values share a column."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))
    sources = sorted({label.removesuffix(", published") for label in found})
    if not any({source, f"{source}, published"} <= set(found) for source in sources):
        return [found[label] for label in sorted(found)]
    blank = Line2D([], [], linestyle="", label=" ")
    pairs = [label for source in sources for label in (source, f"{source}, published")]
    return [found.get(label, blank) for label in pairs]


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
    # An empty bar has no position on a logarithmic axis: its words are put at the left edge.
    at = (end, y) if end > 0 else (0.0, y)
    coords = "data" if end > 0 else axes.get_yaxis_transform()
    note_at(axes, words, at, (4, 0), xycoords=coords)
