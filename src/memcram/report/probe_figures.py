"""Draw the figure of a probe: advantage, cut attention, heat map and items of one model."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame

from memcram.report.data import as_dicts
from memcram.report.drawing import MEAN, errors, note_at, percent, series, titled
from memcram.report.probe_data import chosen, name_of
from memcram.report.style import LIGHT, WIDTH, Theme, applied, finish, lengths_map, wrapped
from memcram.study.probe_record import CONTEXTS, CUTS, ITEM_CONTEXTS

_CUT_NAMES = {"layer": "layer i only", "first": "layers 1 to i"}
_ITEM_NAMES = {"items": "by likelihood", "items_by_length": "by likelihood per character"}
# Inches: heights of the panels.
_ADVANTAGE, _WINS, _CURVE, _MAP, _ITEMS = 1.75, 1.4, 2.1, 2.1, 1.5


def probe(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw the probe of one model, source and K.

    Panels: advantage of the true continuation after each context, and over how many others it
    wins; tokens that stay correct where attention to `[mem]` is cut; attention to `[mem]` by layer
    and head; and, if there are items, the fraction answered.

    Args:
        data: of `probe_data`.
        theme: colours.
    """
    has_items = len(chosen(data, "items")) > 0
    heights = [_ADVANTAGE, _WINS, _CURVE, _MAP] + [_ITEMS] * has_items
    with applied(theme):
        figure = Figure(figsize=(WIDTH, sum(heights) + 1.1), layout="constrained")
        grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        panels = [figure.add_subplot(grid[place]) for place in range(len(heights))]
        first = data.iloc[0]
        title = titled(f"{first['label']}: {first['source']}", data)
        figure.suptitle(wrapped(title, 48), x=0.01, ha="left", fontsize=10, fontweight="bold")
        _advantage(panels[0], data, theme)
        _wins(panels[1], data, theme)
        _curve(panels[2], data, theme)
        _heat(figure, panels[3], data, theme)
        if has_items:
            _items(panels[4], data, theme)
        handles = [*panels[2].get_legend_handles_labels()[0]]
        handles += panels[4].get_legend_handles_labels()[0] if has_items else []
        return finish(figure, theme, f"{words(data)}; bars: {MEAN}", handles=handles)


def words(data: DataFrame) -> str:
    """Say how many texts the figure is about, and how many were left out."""
    first = data.iloc[0]
    left = int(first["not_exact"])
    out = f", {left} not exact and left out" if left else ", all exact"
    return f"n = {int(first['n'])} texts of {first['tokens']:g} tokens (median){out}"


def _advantage(axes: Axes, data: DataFrame, theme: Theme) -> None:
    """Advantage after each context, with the paired difference from nothing."""
    found = chosen(data, "advantage").set_index("context").reindex(CONTEXTS)
    _dots(axes, found, 0.0, theme, 0, "_advantage")
    for row in as_dicts(chosen(data, "advantage_over_none")):
        context = str(row["context"])
        ends = [float(found["value"][context]), float(found["high"][context])]
        at = (float(np.nanmax(ends)), CONTEXTS.index(context))
        note_at(axes, _interval(row), at, (5, 0), fontsize=7.5)
    axes.axvline(0, color=theme.muted, linewidth=0.9, linestyle=":", label="_zero")
    axes.set_yticks(range(len(CONTEXTS)), [name_of(one) for one in CONTEXTS])
    axes.set_ylim(len(CONTEXTS) - 0.5, -0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.6 * (high - low))  # for the notes
    axes.set_xlabel("nats per token, other − true (right: over nothing, paired)", loc="right")
    _heading(axes, "Advantage of the true continuation after …")


def _wins(axes: Axes, data: DataFrame, theme: Theme) -> None:
    """Over how many other continuations the true one wins, by rank; half by chance."""
    contexts = [one for one in CONTEXTS if one != "none"]
    found = chosen(data, "wins_over_none").set_index("context").reindex(contexts)
    _dots(axes, found, 0.0, theme, 0, "_wins")
    axes.axvline(0.5, color=theme.muted, linewidth=0.9, linestyle=":", label="_chance")
    axes.set_yticks(range(len(contexts)), [name_of(one) for one in contexts])
    axes.set_ylim(len(contexts) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    percent(axes.xaxis)
    _heading(axes, "Other continuations that lose more over nothing")


def _curve(axes: Axes, data: DataFrame, theme: Theme) -> None:
    """Fraction of tokens that stay correct, by layer."""
    for place, cut in enumerate(CUTS):
        one = chosen(data, "correct", cut).sort_values("layer")
        one = one[one["layer"] > 0] if cut == "layer" else one
        ends = errors(one["value"], one["low"], one["high"])
        label = f"cut in {_CUT_NAMES[cut]}"
        style = series(place, theme) | {"markersize": 3.5}
        axes.errorbar(one["layer"], one["value"], ends, capsize=1.8, label=label, **style)
    bare = chosen(data, "bare_correct")
    if len(bare):
        style = {"color": theme.muted, "linewidth": 1.0, "linestyle": ":"}
        axes.axhline(float(bare["value"].iloc[0]), label="bare LM", **style)
    axes.set_ylim(-0.03, 1.04)
    percent(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("layer i")
    axes.set_ylabel("correct tokens")
    _heading(axes, "Without attention to [mem]")


def _heat(figure: Figure, axes: Axes, data: DataFrame, theme: Theme) -> None:
    """Attention to `[mem]` by layer and head."""
    found = chosen(data, "attention", "mem").pivot(index="head", columns="layer", values="value")
    heads, layers = found.shape
    edges = np.arange(layers + 1) + 0.5, np.arange(heads + 1) + 0.5
    drawn = axes.pcolormesh(*edges, found.to_numpy(float), cmap=lengths_map(theme), vmin=0)
    axes.grid(visible=False)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    percent(bar.ax.yaxis)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("layer")
    axes.set_ylabel("head")
    means = {one: chosen(data, "attention_mean", one)["value"].iloc[0] for one in ("mem", "random")}
    mean = f"mean {100 * means['mem']:.0f} %, random: {100 * means['random']:.0f} %"
    _heading(axes, f"Attention to [mem] ({mean})")


def _items(axes: Axes, data: DataFrame, theme: Theme) -> None:
    """Fraction of items answered after each context."""
    for place, measure in enumerate(_ITEM_NAMES):
        found = chosen(data, measure).set_index("context").reindex(ITEM_CONTEXTS)
        _dots(axes, found, 0.24 * (place - 0.5), theme, place + 2, f"items {_ITEM_NAMES[measure]}")
    axes.set_yticks(range(len(ITEM_CONTEXTS)), [name_of(one) for one in ITEM_CONTEXTS])
    axes.set_ylim(len(ITEM_CONTEXTS) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    percent(axes.xaxis)
    _heading(axes, "Multiple-choice items answered after …")


def _dots(axes: Axes, found: DataFrame, shift: float, theme: Theme, place: int, label: str) -> None:
    """Means with intervals, one row of the plot each."""
    ends = errors(found["value"], found["low"], found["high"])
    style = series(place, theme) | {"linestyle": ""}
    at = np.arange(len(found)) + shift
    axes.errorbar(found["value"], at, xerr=ends, capsize=2.5, label=label, **style)


def _interval(one: Mapping[str, Any]) -> str:
    ends = "" if pd.isna(one["low"]) else f" [{one['low']:+.2f}, {one['high']:+.2f}]"
    return f"{one['value']:+.2f}{ends}".replace("-", "−")


def _heading(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=9, fontweight="normal")
