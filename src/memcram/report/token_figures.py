"""Draw figures about the tokens of texts: horizons, learning curves, accuracy by position."""

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from pandas import DataFrame

from memcram.report.drawing import (
    MEAN,
    errors,
    percent,
    plain_ticks,
    series,
    spread_evenly,
    texts_per_mark,
    titled,
)
from memcram.report.figure_data import median_curve
from memcram.report.style import (
    LIGHT,
    LINES,
    Theme,
    applied,
    finish,
    lengths_map,
    new_figure,
    places,
)

_MEDIANS = 6  # lengths that get a thick line; more would hide each other


def horizons(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw the fraction of texts exact up to each token (Kaplan–Meier); one label and K.

    There is a line per recipe and source. A cross marks where a text ended before its horizon.
    """
    with applied(theme):
        figure, axes = new_figure(height=3.6)
        index, names = places(list(data["source"])), list(data["name"].unique())
        for (name, source), one in data.groupby(["name", "source"], sort=False):
            place = index[str(source)] if len(names) == 1 else names.index(name)
            cut, steps = one[one["censored"].astype(bool)], one[~one["censored"].astype(bool)]
            label = f"{name}, {source}" if name else str(source)
            label += f", n = {int(one['n'].iloc[0])}, {len(cut)} censored"
            style = series(place, theme) | {"marker": ""}
            axes.step(steps["tokens"], steps["share"], where="post", label=label, **style)
            crosses = style | {"marker": "x", "linestyle": ""}
            axes.plot(cut["tokens"], cut["share"], label="_censored", **crosses)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.04)
        percent(axes.yaxis)
        axes.set_xlabel("tokens from the start, free-running")
        axes.set_ylabel("texts exact at least that far")
        axes.set_title(titled(f"{data['label'].iloc[0]}: horizon", data))
        return finish(figure, theme, "Kaplan–Meier estimate; ×: the text ended first", columns=1)


def growth(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw mean tokens held against token-steps per text, a line per recipe; one model and K.

    A dotted line marks the largest published mean of the architecture.
    """
    with applied(theme):
        figure, axes = new_figure(height=3.8)
        several = data["source"].nunique() > 1
        lines = data.groupby(["name", "source"], sort=False)
        for place, ((name, source), one) in enumerate(lines):
            n, known = int(one["n"].iloc[0]), not one["estimated"].astype(bool).any()
            label = f"{name}, {source}" if several else str(name)
            label += f", n = {n}" if known else f", n = {n}, estimated"
            style = series(place, theme) | {"marker": "", "label": label}
            axes.plot(one["token_steps"], one["held"], **style)
        best = data["published_tokens"].max()
        if best == best:  # not NaN
            style = {"color": theme.muted, "linewidth": 1.2, "linestyle": ":"}
            axes.axhline(best, **style, label=f"largest published mean: {best:,.3g} tokens")
        axes.set_xscale("log")
        plain_ticks(axes, "x")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("token-steps per text")
        axes.set_ylabel("mean tokens held (teacher-forced)")
        axes.set_title(titled(f"{data['label'].iloc[0]}: growth", data))
        return finish(figure, theme, "a text that has ended keeps what it held", columns=1)


def learning_curves(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw correct tokens after each step, one label; thin: one text, thick: median of a length."""
    with applied(theme):
        figure, axes = new_figure(height=3.8)
        lengths = np.sort(data["length"].unique())
        norm = LogNorm(float(lengths[0]), float(max(lengths[-1], lengths[0] + 1)))
        colours = lengths_map(theme)
        halo = [withStroke(linewidth=4.5, foreground=theme.ground)]
        told = spread_evenly(lengths, _MEDIANS)
        for place, length in enumerate(lengths):
            some = data[data["length"] == length]
            colour = colours(norm(float(length)))
            for _, one in some.groupby("task"):
                thin: Any = {"color": colour, "linewidth": 0.5, "alpha": 0.15}
                axes.plot(one["step"], one["right"], label="_one", **thin)
            if length not in told:
                continue
            middle = median_curve(some)
            axes.plot(
                middle["step"],
                middle["right"],
                color=colour,
                linewidth=2.0,
                linestyle=LINES[place % len(LINES)],
                label=f"{length} tokens",
                path_effects=halo,
                zorder=3,
            )
        axes.set_xscale("symlog", linthresh=1)
        plain_ticks(axes, "x")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("optimiser steps")
        axes.set_ylabel("tokens correct (teacher-forced)")
        axes.set_title(titled(f"{data['label'].iloc[0]}: learning", data))
        note = f"n = {data['task'].nunique()} texts (thin lines); thick: median of each length"
        return finish(figure, theme, note, columns=3)


def accuracy_by_position(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Fraction of correct tokens by position in the text, one label: each K, and the bare LM."""
    with applied(theme):
        figure, axes = new_figure(height=3.8)
        lines = [(k, "[mem]") for k in sorted(data["vectors"].unique())]
        lines.append((min(data["vectors"]), "bare LM"))
        for place, (vectors, with_) in enumerate(lines):
            one = data[(data["vectors"] == vectors) & (data["with_"] == with_)]
            one = one.sort_values("first")
            middle = np.sqrt(one["first"].to_numpy(float) * one["last"].to_numpy(float))
            middle = middle * 2 ** (0.07 * (place - (len(lines) - 1) / 2))  # side by side
            ends = errors(one["share"], one["low"], one["high"])
            style = series(place, theme) | {"label": f"[mem], K = {vectors}"}
            if with_ == "bare LM":
                style = {"color": theme.muted, "marker": "x", "linestyle": ":", "label": with_}
            axes.errorbar(middle, one["share"], ends, capsize=2.5, **style)
        axes.set_xscale("log", base=2)
        plain_ticks(axes, "x")
        axes.set_ylim(0, 1.04)
        percent(axes.yaxis)
        axes.set_xlabel("position of the token in the text")
        axes.set_ylabel("tokens correct (teacher-forced)")
        axes.set_title(f"{data['label'].iloc[0]}: accuracy by position")
        return finish(figure, theme, f"{texts_per_mark(data['n'])}; bars: {MEAN}")
