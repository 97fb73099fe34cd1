"""Compare vectors with a prefix of keys and values: tokens per position, number and byte stored."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from memcram.metrics.statistics import paired_ratio
from memcram.report.data import as_dicts
from memcram.report.drawing import MEAN, errors, largest, note_at, series, texts_per_mark, titled
from memcram.report.style import LIGHT, LINE, WIDTH, Theme, applied, finish, n_lines, wrapped
from memcram.report.tables import means, with_passages

_MEASURES = {
    "tokens_per_position": "tokens per\nposition",
    "tokens_per_thousand_numbers": "tokens per\n1,000 numbers",
    "tokens_per_kilobyte": "tokens per\n1,000 bytes",
}
_KEYS = ["label", "source", "vectors", "holder", "recipe", "numbers", "bytes"]
_PUBLISHED = "published for Llama-3.2-1B: 10 times the tokens for 16 times the numbers"
_COLUMNS = [*_KEYS, "n", "ratio", "ratio_low", "ratio_high", "censored_share", "budget_ended"]


def prefix_data(rows: DataFrame) -> DataFrame:
    """Compute the mean horizon of vectors and of prefixes, per position, number and byte stored.

    `holder` is `[mem]` or `prefix`; `numbers` (K · width) and `bytes` are those stored per text.
    `ratio` is the mean horizon over that of the best `[mem]` of the same model, K and source, with
    its interval, over the texts of both. `budget_ended` is the number of texts that the budget
    ended; it is missing where the settings of a text's recipe were not recorded.
    """
    texts = with_passages(rows[rows["kind"] == "prefix"])
    numbers = texts["vectors"] * texts["width"]
    bits = [int(re.findall(r"\d+", str(name))[0]) for name in texts["dtype"]]
    size = numbers * bits // 8
    texts = texts.assign(
        label=[str(label).partition(" · ")[0] for label in texts["label"]],
        holder=np.where(texts["condition"] == "prefix", "prefix", "[mem]"),
        numbers=numbers,
        bytes=size,
        tokens_per_position=texts["horizon"] / texts["vectors"],
        tokens_per_thousand_numbers=1000 * texts["horizon"] / numbers,
        tokens_per_kilobyte=1000 * texts["horizon"] / size,
        ended=texts.get("budget_ended"),
    )
    found = means(texts, _KEYS, ["horizon", *_MEASURES])
    more = DataFrame(list(_compared(texts)), columns=[c for c in _COLUMNS if c != "n"])
    return found.merge(more, on=_KEYS, how="left")


def _compared(texts: DataFrame) -> Iterator[dict[str, Any]]:
    """Ratio to the best `[mem]`, and what ended the texts, of each row of the table."""
    for _, cell in texts.groupby(["label", "source", "vectors"]):
        groups = [part for _, part in cell.groupby(_KEYS)]
        mems = [part for part in groups if part["holder"].iloc[0] == "[mem]"]
        best = max(mems, key=lambda part: float(part["horizon"].mean()), default=None)
        for part in groups:
            ended = part["ended"]
            yield (
                {key: part[key].iloc[0] for key in _KEYS}
                | {
                    "censored_share": part["censored"].astype(float).mean(),
                    "budget_ended": None if ended.isna().any() else int(ended.sum()),
                }
                | ({} if best is None or best is part else _ratio(part, best))
            )


def _ratio(part: DataFrame, best: DataFrame) -> dict[str, float | None]:
    over, under = (one.set_index("text_id")["horizon"] for one in (part, best))
    shared = sorted(set(over.index) & set(under.index))
    if not len(shared) or not under[shared].sum():
        return {}
    found = paired_ratio(over[shared].tolist(), under[shared].tolist())
    low, high = found.ci95 or (None, None)
    return {"ratio": found.ratio, "ratio_low": low, "ratio_high": high}


def prefixes(data: DataFrame, theme: Theme = LIGHT) -> Figure:
    """Draw a panel per measure and a line per holder and recipe; one model, source and K.

    Args:
        data: of `prefix_data`.
        theme: colours.
    """
    data = data.sort_values(["holder", "horizon"], ascending=[False, True])
    title = titled(f"{data['label'].iloc[0]}: vectors and a prefix of keys and values", data)
    title = wrapped(title, 48)
    with applied(theme):
        height = 1.9 + 0.45 * len(data) + LINE * (n_lines(title) - 1)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(1, len(_MEASURES), sharey=True)
        at = np.arange(len(data), dtype=float)
        for axes, (value, unit) in zip(panels, _MEASURES.items(), strict=True):
            right = 1.2 * float(data[[value, f"{value}_high"]].max().max())
            for place, holder in enumerate(("[mem]", "prefix")):
                is_own = (data["holder"] == holder).to_numpy()
                some, y = data[is_own], at[is_own]
                bars = errors(some[value], some[f"{value}_low"], some[f"{value}_high"])
                style = series(place, theme) | {"linestyle": ""}
                axes.errorbar(some[value], y, xerr=bars, label=holder, capsize=3, **style)
                for row, level in zip(as_dicts(some), y, strict=True):
                    words = f"{'≥ ' if _is_bound(row) else ''}{row[value]:,.3g}"
                    # A mark near the axis has its note to the right of it.
                    align = "center" if row[value] > right / 5 else "left"
                    note_at(axes, words, (row[value], level), (0, 10), ha=align)
            axes.set_xlim(0, right)
            axes.set_ylim(-0.6, len(data) - 0.3)
            axes.set_xlabel(unit)
        names = [f"{row['holder']}, {row['recipe']}" for row in as_dicts(data)]
        panels[0].set_yticks(at, [wrapped(name, 24) for name in names])
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        note = f"{texts_per_mark(data['n'])}; bars: {MEAN}; ≥: the budget or the text ended first"
        handles = panels[0].get_legend_handles_labels()[0]
        return finish(figure, theme, f"{note}. {prefix_words(data)}", 2, handles)


def _is_bound(row: dict[str, Any]) -> bool:
    ended = row["budget_ended"]
    return row["censored_share"] > 0 or (not pd.isna(ended) and ended > 0)


def prefix_words(data: DataFrame) -> str:
    """The best prefix against the best vectors, in words, with the published comparison."""
    own = data[(data["holder"] == "prefix") & data["ratio"].notna()]
    if not len(own):
        return ""
    best = largest(own, "horizon")
    known = not pd.isna(best["ratio_low"])
    interval = f" [{best['ratio_low']:.2f}, {best['ratio_high']:.2f}]" if known else ""
    mem = data.loc[data["holder"] == "[mem]", "numbers"].max()
    return (
        f"The prefix holds {best['ratio']:.2f}{interval} times the tokens in "
        f"{best['numbers'] / mem:.3g} times the numbers ({_PUBLISHED})."
    )
