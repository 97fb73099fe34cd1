"""Draw the figures of the ablations; each is a pure function of one table of one label."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from pandas import DataFrame

from memcram.metrics.statistics import rank_correlation
from memcram.report.drawing import (
    MEAN,
    by_source,
    errors,
    mark,
    percent,
    scatter,
    series,
    spread_evenly,
    texts_per_mark,
    titled,
)
from memcram.report.style import (
    LIGHT,
    LINES,
    MARKERS,
    Theme,
    applied,
    finish,
    new_figure,
    new_panels,
    places,
    wrapped,
)

_UNITS = {
    "nats_a_token": "nats per token",
    "right": "correct tokens (teacher-forced)",
    "accuracy": "correct tokens (teacher-forced)",
    "horizon": "tokens exact from the start",
    "cosine": "cosine",
    "distance": "Euclidean distance",
}
_SHARES = ("right", "accuracy")
_PARTS = ("once", "first half", "second half")
_BINS = 18
_STARTS = len(MARKERS)


def context(data: DataFrame, theme: Theme = LIGHT, *, value: str) -> Figure:
    """Draw scores after n tokens of context, and after `[mem]` of each K; one source and length.

    Args:
        data: of `context_data`.
        theme: colours.
        value: `nats_a_token` or `right`.
    """
    with applied(theme):
        figure, axes = new_figure(height=3.9)
        bare = data[data["with_"] == "context"].sort_values("context")
        at = np.arange(len(bare))  # evenly: the lengths span decades, and begin at 0
        _line(axes, bare, at, value, 0, theme, "n tokens of context")
        mems = data[data["with_"] == "[mem]"].sort_values("vectors")
        for place, (_, row) in enumerate(mems.iterrows(), 1):
            style = series(place, theme) | {"marker": ""}
            axes.axhline(row[value], label=f"[mem], K = {row['vectors']:g}", **style)
            low, high = row[f"{value}_low"], row[f"{value}_high"]
            if not pd.isna(low):
                axes.axhspan(low, high, color=style["color"], alpha=0.14, linewidth=0)
        axes.xaxis.set_major_locator(FixedLocator(list(at)))
        axes.set_xticks(at, ["0\n(bare LM)" if n == 0 else f"{n:g}" for n in bare["context"]])
        axes.set_xlim(-0.4, len(at) - 0.6)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("tokens of left context")
        axes.set_ylabel(_UNITS[value])
        _percent(axes, value)
        first = data.iloc[0]
        title = f"{first['label']}: {first['source']}, {first['length']:g} tokens"
        axes.set_title(title)
        note = f"{texts_per_mark(data['n'])}; bars and bands: {MEAN}"
        return finish(figure, theme, note)


def halves(data: DataFrame, theme: Theme = LIGHT, *, value: str) -> Figure:
    """Draw scores of a text crammed once, and of both halves of the doubled text, by length; one K.

    Args:
        data: of `repeat_data`, one source.
        theme: colours.
        value: `accuracy`, `nats_a_token` or `horizon`.
    """
    with applied(theme):
        figure, axes = new_figure(height=3.7)
        lengths = np.sort(data["length"].unique())
        for place, part in enumerate(_PARTS):
            one = data[data["part"] == part].sort_values("length")
            at = np.searchsorted(lengths, one["length"].to_numpy()) + 0.07 * (place - 1)
            label = part if part == "once" else f"twice, {part}"
            _line(axes, one, at, value, place, theme, label)
        axes.set_xticks(np.arange(len(lengths)), [f"{n:g}" for n in lengths])
        axes.set_xlim(-0.4, len(lengths) - 0.6)
        axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])  # so that a mark at 0 is not cut
        axes.set_xlabel("tokens of the text")
        axes.set_ylabel(_UNITS[value])
        _percent(axes, value)
        first = data.iloc[0]
        axes.set_title(titled(f"{first['label']}: {first['source']}, once and twice", data))
        return finish(figure, theme, f"{texts_per_mark(data['n'])}; bars: {MEAN}", columns=3)


def pairs(data: DataFrame, theme: Theme = LIGHT, *, value: str) -> Figure:
    """Draw the similarity of solutions of one text, and of different texts; one K and length.

    Args:
        data: of `pairs_data`.
        theme: colours.
        value: `cosine` or `distance`.
    """
    with applied(theme):
        figure, axes = new_figure(height=3.5)
        known = data[data[value].notna()]  # vectors of 0 have no cosine
        ends = (float(known[value].min()), float(known[value].max()))
        bins = np.linspace(ends[0], ends[1] if ends[1] > ends[0] else ends[0] + 1, _BINS + 1)
        for place, texts in enumerate(("same", "different")):
            values = known.loc[known["texts"] == texts, value].to_numpy(float)
            if not len(values):
                continue
            colour = theme.series[place]
            name = "same text" if texts == "same" else "different texts"
            axes.hist(
                values,
                bins=list(bins),
                weights=np.full(len(values), 1 / len(values)),
                histtype="step",
                linewidth=1.6,
                linestyle=LINES[place],
                color=colour,
                label=f"{name}, {len(values):,} pairs",
            )
            median = float(np.median(values))
            axes.axvline(median, color=colour, linestyle=LINES[place], linewidth=0.9)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        percent(axes.yaxis)
        axes.set_xlabel(_UNITS[value])
        axes.set_ylabel("pairs of solutions")
        axes.set_title(_cell_title(data, "solutions"))
        return finish(figure, theme, "vertical lines: medians; K vectors count as one long vector")


def pca(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Solutions on two principal axes, those of one text joined to their mean; one K and length."""
    with applied(theme):
        figure, axes = new_figure(height=4.4)
        texts = data.groupby(["source", "text_id"], sort=True)
        for place, (_, one) in enumerate(texts):
            colour = theme.series[place % len(theme.series)]
            marker = MARKERS[(place // len(theme.series) + place) % len(MARKERS)]
            middle = one["first"].mean(), one["second"].mean()
            for point in zip(one["first"], one["second"], strict=True):
                ends = zip(middle, point, strict=True)
                axes.plot(*ends, color=colour, linewidth=0.7, alpha=0.7, label="_joined")
            axes.plot(
                one["first"], one["second"], marker, color=colour, markersize=5, label="_text"
            )
        shares = data["first_share"].iloc[0], data["second_share"].iloc[0]
        axes.set_xlabel(f"first principal axis ({100 * shares[0]:.0f} % of the variance)")
        axes.set_ylabel(f"second ({100 * shares[1]:.0f} %)")
        axes.set_title(_cell_title(data, "solutions"))
        note = (
            f"n = {len(data)} solutions of {texts.ngroups} texts; solutions of one text have one "
            "mark and meet at their mean"
        )
        return finish(figure, theme, note, handles=[mark("o", theme.ink, theme.ink, "a solution")])


def path(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw paths from init to solution, a panel with separate axes per text; one K and length.

    At most four texts are drawn, evenly spread, with the first six inits that have a path.
    """
    texts = [one for _, one in data.groupby(["source", "text_id"], sort=True)]
    drawn = [texts[i] for i in spread_evenly(np.arange(len(texts)), 4)]
    drawn = [one[one["start"].isin(sorted(set(one["start"]))[:_STARTS])] for one in drawn]
    starts = sorted({start for one in drawn for start in one["start"]})
    with applied(theme):
        height = 3.4 if len(drawn) == 1 else 2.1
        figure, panels = new_panels(len(drawn), height, _cell_title(data, "paths"))
        for axes, one in zip(panels, drawn, strict=True):
            _paths(axes, one, theme)
        handles = [
            Line2D([], [], label=f"init {start}", linewidth=1.2, **series(start, theme))
            for start in starts
        ]
        shown = f"; {len(drawn)} texts are drawn" if len(drawn) < len(texts) else ""
        note = f"hollow: init, filled: solution{shown}; {path_words(data)}"
        return finish(figure, theme, note, columns=3, handles=handles)


def _paths(axes: Axes, one: DataFrame, theme: Theme) -> None:
    """The paths of one text."""
    for start in sorted(set(one["start"])):
        way = one[one["start"] == start].sort_values("step")
        style = series(start, theme) | {"linewidth": 1.2}
        axes.plot(way["first"], way["second"], **style | {"marker": ""}, label="_path")
        for end, face in ((way.iloc[0], theme.ground), (way.iloc[-1], style["color"])):
            ends = style | {"linestyle": "", "markerfacecolor": face, "zorder": 3}
            axes.plot(end["first"], end["second"], **ends, label="_end")
    axes.set_aspect("equal", adjustable="datalim")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    first = one.iloc[0]
    axes.set_xlabel(f"first axis ({100 * first['first_share']:.0f} %)")
    axes.set_ylabel(f"second ({100 * first['second_share']:.0f} %)")
    title = wrapped(f"{first['source']} {first['text_id'][:8]}")
    axes.set_title(title, fontsize=8.5, fontweight="normal")


def path_words(data: DataFrame) -> str:
    """Describe how many principal axes explain 90 and 99 % of a path's variance, over all paths."""
    paths = data.groupby(["source", "text_id", "start"])[["axes_90", "axes_99"]].first().dropna()
    if not len(paths):
        return "no path has two points"
    words = [
        f"{one.median():g} ({one.min():g} to {one.max():g}) for {share}\u00a0%"
        for share, one in (("90", paths["axes_90"]), ("99", paths["axes_99"]))
    ]
    n = f"n = {len(paths)} paths of {paths.reset_index().groupby(['source', 'text_id']).ngroups}"
    return f"{n} texts; axes per path, median (range): {words[0]} of its variance, {words[1]}"


def line(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Accuracy and exact texts on the straight line between two solutions; one K and length."""
    with applied(theme):
        figure, axes = new_figure(height=3.7)
        names = {
            "accuracy": "correct tokens (teacher-forced)",
            "exact": "exact texts (free-running)",
        }
        several = data["source"].nunique() > 1
        place = 0
        for source, one in by_source(data):
            one = one.sort_values("share")
            for value, name in names.items():
                label = f"{source}: {name}" if several else name
                shift = 0.012 * (value == "exact")  # so that intervals do not hide each other
                at = one["share"].to_numpy(float) + shift
                _line(axes, one, at, value, place, theme, label)
                place += 1
        axes.set_ylim(-0.03, 1.04)
        percent(axes.yaxis)
        axes.set_xlabel("position between two solutions (0 and 1)")
        axes.set_ylabel("fraction")
        axes.set_title(_cell_title(data, "between solutions"))
        note = f"{texts_per_mark(data['n'])}; bars: {MEAN}; exact texts: Wilson's 95 % interval"
        return finish(figure, theme, note, columns=1)


def depth(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Mean horizon with the first n layers of the model, a line per source; one K."""
    with applied(theme):
        figure, axes = new_figure(height=3.6)
        index = places(list(data["source"]))
        for source, one in by_source(data):
            one = one.sort_values("layers")
            at = one["layers"].to_numpy(float)
            cut = float(one["censored_share"].max())
            label = f"{source} (up to {100 * cut:.0f} % censored)" if cut else source
            _line(axes, one, at, "horizon", index[source], theme, label)
        axes.xaxis.set_major_locator(FixedLocator(sorted(data["layers"].unique())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        axes.set_xlabel("first layers of the model that were kept")
        axes.set_ylabel("mean horizon (tokens, free-running)")
        axes.set_title(titled(f"{data['label'].iloc[0]}: depth", data))
        return finish(figure, theme, f"{texts_per_mark(data['n'])}; bars: {MEAN}")


def surprisal(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Horizon of each text against its nats per token under the bare LM; one K.

    Censored texts are hollow and left out of the correlation.
    """
    with applied(theme):
        figure, axes = new_figure(height=4.0)
        index = places(list(data["source"]))
        for source, one in by_source(data):
            cut = one["censored"].astype(bool)
            for some, hollow in ((one[~cut], False), (one[cut], True)):
                if len(some):
                    label = f"{source}, n = {len(some)}" + (", censored" if hollow else "")
                    x, y = some["nats_a_token"], some["horizon"]
                    scatter(axes, x, y, index[source], theme, hollow=hollow, label=label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("nats per token under the bare LM, over the tokens held")
        axes.set_ylabel("horizon (tokens, free-running)")
        axes.set_title(titled(f"{data['label'].iloc[0]}: horizon and surprisal", data))
        return finish(figure, theme, correlation_words(data))


def correlation_words(data: DataFrame) -> str:
    """Spearman's ρ between nats per token and horizon over the texts that are not censored."""
    own = data[~data["censored"].astype(bool)]
    if len(own) < 4:
        return f"n = {len(own)} texts that are not censored: too few for a correlation"
    rho, ends = rank_correlation(list(own["nats_a_token"]), list(own["horizon"]))
    if np.isnan(rho) or ends is None:
        return f"n = {len(own)} texts, all alike: no correlation"
    interval = f"[{ends[0]:.2f}, {ends[1]:.2f}]"
    texts = f"n = {len(own)} texts that are not censored"
    return f"Spearman's ρ = {rho:.2f}, 95 % interval {interval}, {texts}"


def _line(
    axes: Axes, one: DataFrame, at: Any, value: str, place: int, theme: Theme, label: str
) -> None:
    """Means with intervals at the positions `at`, in the style of number `place`."""
    mean = one[value].astype(float)
    ends = errors(mean, one[f"{value}_low"], one[f"{value}_high"])
    axes.errorbar(at, mean, ends, capsize=2.5, label=label, **series(place, theme))


def _percent(axes: Axes, value: str) -> None:
    if value in _SHARES:
        axes.set_ylim(0, 1.04)
        percent(axes.yaxis)


def _cell_title(data: DataFrame, what: str) -> str:
    first = data.iloc[0]
    return titled(f"{first['label']}: {what}, {first['length']:g}\u00a0tokens", data)
