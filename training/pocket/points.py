"""Draw horizon and gains against training, depth and width.

    python -m training.pocket.points table MODEL… --spec-folder runs --texts UNSEEN -o models.csv
    python -m training.pocket.points draw training.csv depth.csv --models models.csv -o training.png
    python -m training.pocket.points curves NAME=curve.csv… -o curves.png

Both figures are pure functions of tables: rows that studies of the kinds `horizon` and `depth`
exported, the quality of their models, and the curves that training runs wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame

from memcram.metrics.information import information_gain_nats
from memcram.metrics.statistics import spread
from memcram.metrics.tokens import token_gain_tokens
from memcram.models.sources import packaged_models
from memcram.report.data import read_results
from memcram.report.drawing import MEAN
from memcram.report.style import (
    LIGHT,
    LINES,
    MARKERS,
    Theme,
    applied,
    finish,
    new_figure,
    new_panels,
    to_png,
)
from training.pocket.evaluate import Sample, evaluate

TRAINED = {"pocket": 30_000_000}  # tokens, about, as its card says
_VALUES = {"horizon": "horizon", "token_gain": "token gain", "information_gain": "information gain"}
_TOKENS = ("horizon", "token_gain")
_NATS = ("information_gain",)


def of_texts(rows: DataFrame) -> DataFrame:
    """Rows with both gains (over t₂ … t_N) of the prefix that was held, and the training.

    `trained` is the number of training tokens of a snapshot, which its name ends in, or of a
    packaged model; NaN for every other model.
    """
    names = [short_name(str(model)) for model in rows["model"]]
    trained = [float(name) if name.isdecimal() else TRAINED.get(name, np.nan) for name in names]
    return rows.assign(
        name=names,
        trained=trained,
        token_gain=token_gain_tokens(rows["mem_right"], rows["lm_right"]),
        information_gain=information_gain_nats(rows["lm_nats"], rows["mem_nats"]),
    )


def means(texts: DataFrame, keys: Sequence[str]) -> DataFrame:
    """n, mean and bootstrap 95 % interval (`VALUE_low`, `VALUE_high`) of each value.

    Args:
        texts: of `of_texts`.
        keys: columns to group by; groups are sorted by them.
    """
    found = []
    for key, group in texts.groupby(list(keys), sort=True):
        row: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"n": len(group)}
        for value in _VALUES:
            one = spread([float(x) for x in group[value]])
            low, high = one.ci95 or (np.nan, np.nan)
            row |= {value: one.mean, f"{value}_low": low, f"{value}_high": high}
        found.append(row)
    columns = [f"{value}{end}" for value in _VALUES for end in ("", "_low", "_high")]
    return DataFrame(found, columns=[*keys, "n", *columns])


def training_data(rows: DataFrame) -> DataFrame:
    """Means by training tokens: the snapshots of one run, and the packaged model."""
    texts = of_texts(rows[rows["kind"] == "horizon"])
    return means(texts[texts["trained"].notna()], ["trained", "name"])


def depth_data(rows: DataFrame) -> DataFrame:
    """Means by number of first layers that are kept."""
    return means(of_texts(rows[rows["kind"] == "depth"]), ["layers"])


def quality_data(rows: DataFrame, models: DataFrame) -> DataFrame:
    """Means of all models, by nats per token on unseen books.

    Args:
        rows: of the study.
        models: of `quality_table`; `model` is what the study calls it.
    """
    texts = of_texts(rows[rows["kind"] == "horizon"])
    keys = ["model", "name", "layers", "width", "parameters"]
    found = means(texts, keys).merge(models, on="model", validate="one_to_one")
    return found.sort_values("nats_per_token", ascending=False, ignore_index=True)


def quality_table(
    models: Sequence[str], spec_folder: Path, texts: Path, sample: Sample
) -> DataFrame:
    """One row per model: nats per token on the same windows of unseen books.

    Args:
        models: packaged names and folders, as the study calls them.
        spec_folder: folder that relative names start at, that of the study's spec.
        texts: folder of .txt books.
        sample: windows of each.
    """
    packaged = packaged_models()
    found = []
    for model in models:
        one = evaluate(packaged.get(model, spec_folder / model), texts, sample)
        found.append(
            {
                "model": model,
                "nats_per_token": one.nats_per_token,
                "standard_error": one.standard_error,
                "books": len(one.books),
                "windows": sample.windows,
                "window_tokens": sample.length,
            }
        )
    return DataFrame(found)


def figure(rows: DataFrame, models: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw horizon and gains by training, horizon by quality, and horizon and gain by depth."""
    training, depth = training_data(rows), depth_data(rows)
    quality = quality_data(rows, models)
    with applied(theme):
        drawn, panels = new_panels(4, 2.35, "What a vector holds, by training and depth")
        at = np.arange(len(training))  # evenly spaced: the numbers span decades and begin at 0
        own_run = training["name"].isin(TRAINED)
        for axes, values in zip(panels, (_TOKENS, _NATS), strict=False):
            for apart, one in ((False, training[~own_run]), (True, training[own_run])):
                _lines(axes, one, at[own_run == apart], values, theme, apart)
            axes.set_xlim(-0.4, len(at) - 0.6)
            axes.set_xticks(at, [short(n) for n in training["trained"]], fontsize=7.5)
            axes.set_xlabel("tokens of training")
        _against_quality(panels[2], quality, set(training["name"][~own_run]), theme)
        _lines(panels[3], depth, depth["layers"], _TOKENS, theme)
        panels[3].set_xticks(list(depth["layers"]))
        panels[3].set_xlabel("first layers of pocket")
        for axes, unit in zip(panels, ("tokens", "nats", "tokens", "tokens"), strict=True):
            axes.set_ylabel(unit)
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        handles = [
            Line2D([], [], label=name, **_style(place, theme))
            for place, name in enumerate(_VALUES.values())
        ]
        note = (
            f"{_texts(pd.concat([training, depth, quality]))} per mark, K = 1; bars: {MEAN}; gains "
            "over t₂ … t_N of the prefix that is held; snapshots of one run are joined, 30M is "
            "pocket, of another run; hollow: other models, with their width"
        )
        return finish(drawn, theme, note, columns=3, handles=handles)


def _lines(
    axes: Axes, data: DataFrame, at: Any, values: Sequence[str], theme: Theme, apart: bool = False
) -> None:
    """Draw means and intervals at the positions `at`, one line per value; only marks if `apart`."""
    for value in values:
        style = _style(list(_VALUES).index(value), theme)
        _errorbar(axes, data, at, value, style | ({"linestyle": ""} if apart else {}))


def _errorbar(axes: Axes, data: DataFrame, at: Any, value: str, style: dict[str, Any]) -> None:
    ends = [data[value] - data[f"{value}_low"], data[f"{value}_high"] - data[value]]
    # `spread` has no interval for a single text.
    known = [end.astype(float).clip(lower=0).fillna(0.0) for end in ends]
    axes.errorbar(at, data[value], known, capsize=2.5, markersize=4, **style)


def _against_quality(axes: Axes, data: DataFrame, points: set[str], theme: Theme) -> None:
    """Draw horizon against nats per token; snapshots are joined, other models are named."""
    joined = data["name"].isin(points)
    line, others = data[joined], data[~joined]
    _errorbar(axes, line, line["nats_per_token"], "horizon", _style(0, theme))
    for _, row in others.iterrows():
        style = _style(0, theme) | {"linestyle": ""}
        if row["name"] not in TRAINED:
            style |= {"marker": "D", "markerfacecolor": theme.ground}
        one = DataFrame([row])
        _errorbar(axes, one, one["nats_per_token"], "horizon", style)
        lowest = row["horizon"] == others["horizon"].min()  # below, where no other name is
        axes.annotate(
            f"{row['name']}, {row['width']:g}",
            (row["nats_per_token"], row["horizon"]),
            xytext=(-5, -16 if lowest else 3),
            textcoords="offset points",
            fontsize=7,
            ha="right",
            color=theme.ink,
        )
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("nats per token, unseen books")


def curves_figure(curves: dict[str, DataFrame], theme: Theme = LIGHT) -> Figure:
    """Draw held-out nats per token against training tokens, one line per run.

    Args:
        curves: by name, of the columns of a run's curve.csv.
        theme: colours.
    """
    with applied(theme):
        drawn, axes = new_figure(height=3.4)
        for place, (name, curve) in enumerate(curves.items()):
            axes.plot(
                curve["tokens"] / 1e6,
                curve["held_out_nats"],
                label=name,
                markersize=3.5,
                **_style(place, theme),
            )
        axes.set_xlabel("million tokens of training")
        axes.set_ylabel("nats per token, held-out books")
        axes.set_title("Learning curves")
        note = (
            "one line per run, the same books held out of all; each run is validated on windows of "
            "its training length, so lines differ in context too"
        )
        return finish(drawn, theme, note, columns=1)


def _style(place: int, theme: Theme) -> dict[str, Any]:
    return {"color": theme.series[place], "marker": MARKERS[place], "linestyle": LINES[place]}


def _texts(data: DataFrame) -> str:
    low, high = int(data["n"].min()), int(data["n"].max())
    return f"n = {low} texts" if low == high else f"n = {low} to {high} texts"


def short_name(model: str) -> str:
    """`runs/points/50000` → `50000`; `runs/neox/model` → `neox`; `pocket` as it is."""
    *_, parent, last = ["", *model.split("/")]
    return parent if last == "model" and parent else last


def short(tokens: float) -> str:
    """Abbreviate a number of tokens: 50000 → 50k, 1500000 → 1.5M."""
    if tokens >= 1_000_000:
        return f"{tokens / 1e6:g}M"
    return f"{tokens / 1e3:g}k" if tokens else "0"


@click.group()
def main() -> None:
    """Tables and figures of what models hold at points of their training."""


@main.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--spec-folder", type=click.Path(exists=True, path_type=Path), default=Path())
@click.option("--texts", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--windows", type=int, default=8, show_default=True, help="Windows per book.")
@click.option("--length", type=int, default=128, show_default=True, help="Tokens per window.")
@click.option("-o", "out", type=click.Path(path_type=Path), required=True)
def table(
    models: tuple[str, ...], spec_folder: Path, texts: Path, windows: int, length: int, out: Path
) -> None:
    """Measure nats per token of MODELS, named as in a study with its spec in --spec-folder."""
    quality_table(models, spec_folder, texts, Sample(windows, length)).to_csv(out, index=False)
    print(out.read_text(), end="")


@main.command()
@click.argument("rows", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option("--models", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("-o", "out", type=click.Path(path_type=Path), required=True)
def draw(rows: tuple[Path, ...], models: Path, out: Path) -> None:
    """Draw the figure of exported ROWS, and print its data."""
    read = pd.concat([read_results(file) for file in rows], ignore_index=True)
    quality = pd.read_csv(models)
    for data in (training_data(read), quality_data(read, quality), depth_data(read)):
        print(data.round(2).to_string(index=False), end="\n\n")
    out.write_bytes(to_png(figure(read, quality), LIGHT))


@main.command()
@click.argument("named", metavar="NAME=FILE...", nargs=-1, required=True)
@click.option("-o", "out", type=click.Path(path_type=Path), required=True)
def curves(named: tuple[str, ...], out: Path) -> None:
    """Draw the curve.csv of each run under its name."""
    read = {name: pd.read_csv(file) for name, _, file in (one.partition("=") for one in named)}
    out.write_bytes(to_png(curves_figure(read), LIGHT))


if __name__ == "__main__":
    main()
