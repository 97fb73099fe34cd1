"""Draw the paper's figures; each is a pure function of one table and returns a matplotlib figure.

Every figure is one column wide. `data` comes from `figure_data`; where a function says "one
label", the page draws one figure for each.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from pandas import DataFrame

from memcram.metrics.information import (
    NATS_PER_BIT,
    PERCEPTRON_BITS,
    SUPERPOSITION_BITS,
    cross_entropy_line,
)
from memcram.metrics.tokens import ACCURACY_THRESHOLD as THRESHOLD
from memcram.report.drawing import (
    MEAN,
    by_source,
    by_source_apart,
    counted,
    errors,
    ideal,
    intervals,
    largest,
    line_style,
    log_axes,
    mark,
    note_at,
    plain_ticks,
    scatter,
    spread_evenly,
    titled,
)
from memcram.report.style import (
    LIGHT,
    LINE,
    MARKERS,
    Theme,
    applied,
    finish,
    lengths_map,
    n_lines,
    new_figure,
    places,
    wrapped,
)

_MARK_ROW = 0.27  # inches: distance between the models of bits_per_dimension


def cross_entropy(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Figures 3 and 6, one label: H_LM against H_LM+[mem] (nats), one point per text.

    Filled marks are texts the vectors could not hold (teacher-forced accuracy ≤ 0.99); the lines
    are fitted to these. Hollow marks fitted. Random texts are triangles, others circles.
    """
    with applied(theme):
        figure, axes = new_figure(height=4.5)
        lengths = data["length"].astype(float)
        norm = LogNorm(lengths.min(), max(lengths.max(), lengths.min() + 1))
        colours = lengths_map(theme)
        for marker, saturated, some in _marked(data):
            rgba = colours(norm(some["length"].to_numpy(float)))
            face = "none" if saturated else rgba
            style: Any = {"marker": marker, "s": 22, "edgecolors": rgba, "linewidths": 0.9}
            axes.scatter(some["lm_nats"], some["mem_nats"], facecolors=face, **style)
        top = float(data["lm_nats"].max()) * 1.04
        axes.plot([0, top], [0, top], color=theme.muted, linewidth=0.9, linestyle=":")
        words = {"ha": "right", "va": "baseline", "fontsize": 8, "color": theme.muted}
        note_at(axes, "no gain", (0.55 * top, 0.55 * top), (-3, 3), **words)
        fitted = data[~data["saturated"].astype(bool)]
        if len(fitted):
            _fit(axes, fitted, top, theme)
        axes.set_xlim(0, top)
        axes.set_ylim(bottom=-0.03 * axes.get_ylim()[1])
        axes.set_xlabel("H under the bare LM (nats per text)")
        axes.set_ylabel("H with [mem] (nats per text)")
        axes.set_title(titled(str(data["label"].iloc[0]), data))
        _length_bar(figure, axes, norm, data, theme)
        note = f"n = {len(data)} texts, {len(fitted)} in the fit; interval of the slope: bootstrap"
        handles = [*_mark_handles(data, theme), *axes.get_legend_handles_labels()[0]]
        return finish(figure, theme, f"{note} 95 %", handles=handles)


def _marked(data: DataFrame) -> Iterator[tuple[str, bool, DataFrame]]:
    """Marker, whether the vectors held the texts completely, and those texts."""
    random = data["source"].str.contains("random")
    saturated = data["saturated"].astype(bool)
    for chosen, marker in ((~random, "o"), (random, "^")):
        for whole in (True, False):
            yield marker, whole, data[chosen & (saturated == whole)]


def _mark_handles(data: DataFrame, theme: Theme) -> list[Artist]:
    """Make the legend's marks, in the text colour, because colour in the plot shows the length."""
    names = list(dict.fromkeys(name for name, _ in by_source(data)))
    plain = ", ".join(name for name in names if "random" not in name)
    random = ", ".join(name for name in names if "random" in name)
    shown = [("o", plain, theme.ink), ("^", random, theme.ink), ("o", "held completely", "none")]
    return [mark(marker, theme.ink, face, words) for marker, words, face in shown if words]


def _fit(axes: Axes, fitted: DataFrame, top: float, theme: Theme) -> None:
    found = cross_entropy_line(
        list(fitted["lm_nats"]), list(fitted["mem_nats"]), passages=list(fitted["passage"])
    )
    x = np.array([max(found.threshold_nats, 0.0), top])
    words = f"slope 1, threshold {found.threshold_nats:,.0f} nats"
    axes.plot(x, x - found.threshold_nats, color=theme.ink, linewidth=1.4, label=words)
    axes.axvline(found.threshold_nats, color=theme.ink, linewidth=0.9, linestyle=(0, (1, 2)))
    if found.slope is None or found.intercept_nats is None:
        return
    x = np.array([fitted["lm_nats"].min(), fitted["lm_nats"].max()])
    words = f"free slope {found.slope:.2f}"
    if found.slope_ci95:
        words += " [{:.2f}, {:.2f}]".format(*found.slope_ci95)
    y = found.intercept_nats + found.slope * x
    axes.plot(x, y, color=theme.series[1], linewidth=1.8, linestyle="--", label=words)


def _length_bar(figure: Figure, axes: Axes, norm: LogNorm, data: DataFrame, theme: Theme) -> None:
    colours = ScalarMappable(norm, lengths_map(theme))
    bar = figure.colorbar(colours, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    lengths = np.unique(data["length"])
    shown = lengths if len(lengths) <= 8 else spread_evenly(lengths, 6)
    bar.ax.yaxis.set_major_locator(FixedLocator(list(shown)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    bar.set_label("length (tokens)")


def capacity_by_vectors(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Figure 4a, one label: decoding capacity (tokens) against K, a line per source.

    Also drawn: the ideal, K times the capacity of the fewest vectors, and the longest input of
    the model. An arrow upwards marks a capacity that is the longest length tried.
    """
    with applied(theme):
        figure, axes = new_figure(height=4.0)
        reached = data[data["max_tokens"].notna()]
        for label, source, one in by_source_apart(reached):
            style = line_style(source, one, data, theme)
            axes.plot(one["vectors"], one["max_tokens"], label=label, **style)
            if not one["published"].iloc[0]:
                _brackets(axes, one, style["color"])
        ideal(axes, reached, "max_tokens", theme)
        ceiling = data.dropna(subset="ceiling_tokens").drop_duplicates("vectors")
        if len(ceiling):
            style = {"color": theme.muted, "label": "longest input of the model"}
            axes.plot(ceiling["vectors"], ceiling["ceiling_tokens"], linewidth=2.4, **style)
        log_axes(axes, reached["vectors"])
        axes.set_ylabel(f"max tokens (accuracy ≥ {THRESHOLD})")
        axes.set_title(f"{data['label'].iloc[0]}: capacity")
        note = "; line: to the next length, which failed; △ longest tried"
        return finish(figure, theme, counted(reached, "n", note))


def _brackets(axes: Axes, one: DataFrame, colour: str) -> None:
    """Draw the range of each capacity: up to the next length, or open upwards."""
    above, longest = one[one["next_tokens"].notna()], one[one["next_tokens"].isna()]
    x, low, high = above["vectors"], above["max_tokens"], above["next_tokens"]
    axes.vlines(x, low, high, linewidth=1.0, color=colour)
    at = longest["max_tokens"] * 1.12
    axes.plot(longest["vectors"], at, "^", mfc="none", color=colour, label="_longest tried")


def gain_by_vectors(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Figure 4b, one label: information gain (nats and bits) against K, a line per source."""
    with applied(theme):
        figure, axes = new_figure(height=4.0)
        known = data[data["information_gain_nats"].notna()]
        for label, source, one in by_source_apart(known):
            mean = one["information_gain_nats"]
            low, high = one["information_gain_nats_low"], one["information_gain_nats_high"]
            style = line_style(source, one, data, theme)
            ends = errors(mean, low, high)
            axes.errorbar(one["vectors"], mean, ends, capsize=3, label=label, **style)
        ideal(axes, known, "information_gain_nats", theme)
        log_axes(axes, known["vectors"])
        axes.set_ylabel("information gain (nats per text)")
        _bits_axis(axes)
        axes.set_title(f"{data['label'].iloc[0]}: information gain")
        return finish(figure, theme, counted(known, "gain_n", f"; bars: {MEAN}"))


def _bits_axis(axes: Axes) -> None:
    """Add the same scale in bits on the right; both axes are logarithmic."""
    low, high = axes.get_ylim()
    right = axes.twinx()
    right.set_yscale("log")
    right.set_ylim(low / NATS_PER_BIT, high / NATS_PER_BIT)
    right.grid(visible=False)
    right.spines["right"].set_visible(True)
    right.set_ylabel("(bits per text)")
    plain_ticks(right, "y")


def bound_against_gain(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Figure 5a: token gain against the capacity bound (tokens), area of a mark by parameters."""
    with applied(theme):
        figure, axes = new_figure(height=4.6)
        for source, own in by_source(data):
            place = places(list(data["source"]))[source]
            for published in (True, False):
                some = own[own["published"].astype(bool) == published]
                _gain_marks(axes, some, place, theme, hollow=published)
        _name_series(axes, data[~data["published"].astype(bool)])
        low = 0.5 * float(min(data["bound_tokens"].min(), data["token_gain"].clip(lower=1).min()))
        high = 1.6 * float(data["bound_tokens"].max())
        for share, dashes in ((1.0, "-"), (0.1, "--"), (0.01, ":")):
            y = [share * low, share * high]
            style: Any = {"color": theme.muted, "linewidth": 0.9, "linestyle": dashes}
            axes.plot([low, high], y, label=f"_{share:g}", **style)
            note_at(axes, f"{100 * share:g} %", (high, y[1]), (3, 0), fontsize=8, color=theme.muted)
        axes.set(xscale="log", yscale="log")
        axes.set_xlim(0.35 * float(data["bound_tokens"].min()), high)
        axes.set_ylim(0.5 * float(data["token_gain"].clip(lower=1).min()), 1.2 * high)
        for axis in ("x", "y"):
            plain_ticks(axes, axis)
        axes.set_xlabel("capacity bound (tokens; 16 bits per coordinate)")
        axes.set_ylabel("token gain (tokens per text)")
        axes.set_title(titled("Bound and gain", data))
        note = f"; bars: {MEAN}; area of a mark: parameters; lines: fraction of the bound"
        return finish(figure, theme, counted(data, "gain_n", note), 3, _gain_handles(data, theme))


def _gain_marks(axes: Axes, some: DataFrame, place: int, theme: Theme, *, hollow: bool) -> None:
    # The area grows with the order of magnitude, so that 1 M and 10 B parameters fit one figure.
    area = 14 + 26 * np.log10(1 + some["parameters"].astype(float) / 1e6)
    x, y = some["bound_tokens"], some["token_gain"]
    ends = errors(y, some["token_gain_low"], some["token_gain_high"])
    intervals(axes, x, y, place, theme, yerr=ends)
    scatter(axes, x, y, place, theme, hollow=hollow, s=area)


def _name_series(axes: Axes, own: DataFrame) -> None:
    models = own["label"].str.split(" · ").str[0]
    for model, some in own.groupby(models):
        top = largest(some, "token_gain")
        at = (float(top["bound_tokens"]), float(top["token_gain"]))
        several = some["label"].nunique()
        name = f"{model} ({several} settings)" if several > 1 else str(top["label"])
        note_at(axes, wrapped(name), at, (-9, 0), ha="right")


def bits_per_dimension(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Information gain in bits per dimension of each model, a mark per source; published hollow.

    Two reference lines, derived in docs/method.md: the capacity of a perceptron, and that of a sum
    of random codes.
    """
    with applied(theme):
        order = data.sort_values("parameters", kind="stable")["label"].drop_duplicates().tolist()
        labels = [wrapped(name) for name in order]
        heights = [max(1.0, n_lines(label) * LINE / _MARK_ROW) for label in labels]
        middles = {name: sum(heights[:i]) + (heights[i] - 1) / 2 for i, name in enumerate(order)}
        figure, axes = new_figure(height=2.0 + _MARK_ROW * sum(heights))
        index = places(list(data["source"]))
        for source, some in by_source(data):
            for published, one in some.groupby(some["published"].astype(bool)):
                x, place = one["bits_per_dimension"].astype(float), index[source]
                y = one["label"].map(middles) + 0.2 * (place - 1)  # sources below each other
                ends = errors(x, one["bits_per_dimension_low"], one["bits_per_dimension_high"])
                intervals(axes, x, y, place, theme, xerr=ends)
                scatter(axes, x, y, place, theme, hollow=bool(published), s=24)
        lines = [
            axes.axvline(bits, color=theme.ink, linewidth=1.0, linestyle=dashes, label=words)
            for bits, dashes, words in (
                (SUPERPOSITION_BITS, ":", "0.72 = 1 / (2 ln 2): sum of random codes"),
                (PERCEPTRON_BITS, "--", "2: perceptron (Gardner 1988)"),
            )
        ]
        axes.set_yticks(list(middles.values()), labels)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(sum(heights) - 0.4, -0.6)
        axes.set_xlim(0, 1.06 * max(PERCEPTRON_BITS, float(data["bits_per_dimension"].max())))
        axes.set_xlabel("information gain (bits per dimension)")
        axes.set_title(titled("Bits per dimension", data))
        note = counted(data, "gain_n", f"; line: {MEAN}")
        return finish(figure, theme, note, 2, [*_gain_handles(data, theme), *lines])


def _gain_handles(data: DataFrame, theme: Theme) -> list[Artist]:
    index, found = places(list(data["source"])), []
    for source, some in by_source(data):
        colour, marker = theme.series[index[source]], MARKERS[index[source]]
        face = "none" if some["published"].astype(bool).all() else colour
        found.append(mark(marker, colour, face, source))
    return list(found)
