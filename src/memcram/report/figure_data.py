"""Compute the table that each figure draws, from the results table and the token records."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame

from memcram.metrics.tokens import saturated, survival
from memcram.models.accounting import room
from memcram.report.data import as_dicts, joined
from memcram.report.tables import means, measured, with_passages
from memcram.study.results import TokenRecord
from memcram.study.runfile import Progress

Records = Callable[[str], TokenRecord]
_GRID, _FIRST_PART = 64, 1 / 200  # points of a line, and where it begins as part of its end


def max_tokens_data(table: DataFrame) -> DataFrame:
    """Figure 1: max tokens of one vector (or of the fewest vectors that were measured).

    Args:
        table: with the columns of `tables.table_1`.
    """
    columns = ["label", "source", "published", "parameters", "vectors", "max_tokens"]
    columns += ["next_tokens", "longest_tokens", "n"]
    found = _fewest(table)[columns]
    unprinted = found["published"].astype(bool) & found["max_tokens"].isna()
    return found[~unprinted].reset_index(drop=True)


def cross_entropy_data(rows: DataFrame) -> DataFrame:
    """Figures 3 and 6: one point per text, nats over t₂ … t_N; sorted, so long texts lie on top."""
    rows = measured(rows, "capacity")
    columns = ["task", "label", "vectors", "source", "length", "lm_nats", "mem_nats", "accuracy"]
    full = [saturated(accuracy) for accuracy in rows["accuracy"]]
    found = with_passages(rows)[[*columns, "passage"]].assign(saturated=full)
    return found.sort_values(["label", "vectors", "length", "task"], ignore_index=True)


def _tokens_before(layout: str) -> int:
    """Tokens between `[mem]` and t₁ in a layout such as `mem+bos` or `mem+8 tokens`.

    >>> _tokens_before("mem+bos+8 tokens")
    9
    """
    visible = re.search(r"\+(\d+) tokens$", layout)
    return layout.startswith("mem+bos") + (int(visible[1]) if visible else 0)


def vectors_data(table: DataFrame) -> DataFrame:
    """Figure 4: capacity and information gain against K.

    `ceiling_tokens` is the longest text for which the model has positions after K vectors.
    """
    columns = ["label", "source", "published", "vectors", "max_tokens", "next_tokens", "n"]
    columns += ["gain_n", *_with_interval("information_gain_nats")]
    ceilings = [
        np.nan if pd.isna(positions) else room(int(positions), vectors, _tokens_before(layout))
        for positions, vectors, layout in zip(
            table["max_positions"], table["vectors"], table["layout"], strict=True
        )
    ]
    found = table[columns].assign(ceiling_tokens=np.array(ceilings, dtype=float))
    return found.sort_values(["published", "label", "source", "vectors"], ignore_index=True)


def bound_data(table: DataFrame) -> DataFrame:
    """Figure 5: capacity bound, token gain and their ratio, with intervals of the mean gain.

    Where only a standard deviation was published, the interval is empty.
    """
    columns = ["label", "source", "published", "parameters", "vectors", "bound_tokens"]
    columns += [*_with_interval("token_gain"), "token_gain_std", "gain_n"]
    columns += _with_interval("utilisation")
    return _fewest(table[table["token_gain"].notna()])[columns].reset_index(drop=True)


def dimension_data(table: DataFrame) -> DataFrame:
    """Information gain in bits per dimension of the vectors, with the interval of the mean."""
    columns = ["label", "source", "published", "parameters", "width", "vectors", "gain_n"]
    columns += [*_with_interval("bits_per_dimension"), "bits_per_dimension_std"]
    known = table[table["bits_per_dimension"].notna()]
    return _fewest(known)[columns].reset_index(drop=True)


def horizon_means_data(horizons: DataFrame) -> DataFrame:
    """Mean exact horizons of each measured model, with those published for its architecture.

    Where nothing was measured, all published ones, under the label `published`.

    Args:
        horizons: with the columns of `horizons.with_published_horizons`.
    """
    columns = ["label", "name", "source", "published", "parameters", "vectors", "n"]
    columns += [*_with_interval("horizon_tokens"), "horizon_tokens_std", "censored_share"]
    columns += ["budget_ended", "token_steps"]
    published = horizons["published"].astype(bool)
    own = set(zip(horizons["group"][~published], horizons["vectors"][~published], strict=True))
    if not own:
        named = horizons["group"] + " · " + horizons["name"]
        return horizons.assign(label="published", name=named)[columns]
    shown = [key in own for key in zip(horizons["group"], horizons["vectors"], strict=True)]
    named = horizons["name"] + ", " + horizons["label"]
    found = horizons.assign(label=horizons["group"], name=named.where(published, horizons["name"]))
    return found[shown][columns].reset_index(drop=True)


def _with_interval(column: str) -> list[str]:
    return [column, f"{column}_low", f"{column}_high"]


def _fewest(table: DataFrame) -> DataFrame:
    """Select the rows with the fewest vectors of each label, measured and published separately."""
    fewest = table.groupby(["label", "published"])["vectors"].transform("min")
    return table[table["vectors"] == fewest]


def horizons_data(rows: DataFrame) -> DataFrame:
    """Fraction of texts with at least `tokens` exact tokens (Kaplan–Meier), and censored texts.

    `label` is the model, `name` the settings in which its rows differ, empty where they do not.
    Rows with `censored` mark where texts ended before their horizon did.
    """
    frames = []
    for (label, vectors, source), group in measured(rows, "horizon").groupby(
        ["label", "vectors", "source"]
    ):
        held, still = survival(group["horizon"].to_numpy(int), group["censored"].to_numpy(bool))
        model, _, name = str(label).partition(" · ")
        key = {"label": model, "name": name, "vectors": vectors, "source": source, "n": len(group)}
        last = max(float(group["horizon"].max()), held[-1])
        tokens, share = np.append(held, last), np.append(still, still[-1])
        frames.append(DataFrame({**key, "tokens": tokens, "share": share, "censored": False}))
        ends = np.sort(group.loc[group["censored"].astype(bool), "horizon"].to_numpy(float))
        at = still[np.searchsorted(held, ends, side="right") - 1]
        frames.append(DataFrame({**key, "tokens": ends, "share": at, "censored": True}))
    columns = ["label", "name", "vectors", "source", "n", "tokens", "share", "censored"]
    return joined(frames, columns)


def growth_data(
    rows: DataFrame, horizons: DataFrame, progress: Callable[[dict[str, Any]], Progress | None]
) -> DataFrame:
    """Mean tokens held (teacher-forced) after so many token-steps per text, by recipe.

    A text that has ended keeps what it held. `estimated` says whether the token-steps of some text
    were estimated; `published_tokens` is the largest mean published for the architecture.

    Args:
        rows: the results table.
        horizons: with the columns of `horizons.with_published_horizons`.
        progress: of a row.
    """
    columns = ["label", "name", "vectors", "source", "token_steps", "held", "n", "estimated"]
    columns.append("published_tokens")
    published = horizons[horizons["published"].astype(bool)]
    best = published.groupby(["group", "vectors"])["horizon_tokens"].max().to_dict()
    frames = []
    for row in as_dicts(horizons[~horizons["published"].astype(bool)]):
        same = ["label", "vectors", "source"]
        texts = measured(rows, "horizon")
        texts = texts[(texts[same] == [row[name] for name in same]).all(axis=1)]
        known = [(one["token_steps"], progress(one)) for one in as_dicts(texts)]
        found = [(spent, of) for spent, of in known if of is not None and len(of.points)]
        if not found or len(found) < len(known):
            continue
        grid = np.geomspace(_FIRST_PART, 1, _GRID) * max(spent for spent, _ in found)
        held = np.mean([_held_at(of.points, grid) for _, of in found], axis=0)
        key = {"label": row["group"], "name": row["name"], "vectors": row["vectors"]}
        key |= {"source": row["source"], "n": len(found)}
        key |= {"estimated": any(of.estimated for _, of in found)}
        key |= {"published_tokens": best.get((row["group"], row["vectors"]), np.nan)}
        frames.append(DataFrame({**key, "token_steps": grid, "held": held})[columns])
    return joined(frames, columns)


def _held_at(points: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tokens held after so many token-steps: 0 before the first point."""
    at = np.searchsorted(points[:, 0], grid, side="right")
    return np.append(0.0, points[:, 1])[at]


def curves_data(rows: DataFrame, records: Records) -> DataFrame:
    """Learning curves: tokens correct (or held) after each measured step, one line per text."""
    rows = rows[rows["condition"].fillna("") == ""]
    frames = []
    for row in rows.itertuples():
        curve = records(str(row.task)).curve.double().numpy()
        if len(curve):
            key = {"task": row.task, "label": row.label, "kind": row.kind}
            key |= {"vectors": row.vectors, "length": row.length}
            values = {"step": curve[:, 0], "right": curve[:, 1], "loss": curve[:, 2]}
            frames.append(DataFrame({**key, **values}))
    columns = ["task", "label", "kind", "vectors", "length", "step", "right", "loss"]
    return joined(frames, columns)


def median_curve(curves: DataFrame) -> DataFrame:
    """Median of correct tokens over texts, by step; a run that ended keeps its last value."""
    steps = np.unique(curves["step"].to_numpy(float))
    values = []
    for _, one in curves.groupby("task"):
        one = one.sort_values("step")
        before = np.searchsorted(one["step"].to_numpy(float), steps, side="right") - 1
        right = one["right"].to_numpy(float)[np.maximum(before, 0)]
        values.append(np.where(before < 0, np.nan, right))
    stacked = np.array(values)
    return DataFrame({"step": steps, "right": _nanmedian(stacked)})


def _nanmedian(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.median(column[~np.isnan(column)]) for column in values.T])


def positions_data(rows: DataFrame, records: Records) -> DataFrame:
    """Fraction of correct tokens by position in the text, with `[mem]` and under the bare LM.

    Positions are put into bins 1, 2, 3–4, 5–8, …: the fraction within a bin per text, then mean
    and bootstrap 95 % interval over texts. Only texts that the vectors could not hold completely
    are included; the others are correct everywhere.
    """
    shares = []
    rows = with_passages(measured(rows, "capacity"))
    for row in as_dicts(rows[["task", "label", "vectors", "passage", "accuracy"]]):
        if saturated(row["accuracy"]):
            continue
        record = records(row["task"])
        for with_, ranks in (("[mem]", record.mem_ranks), ("bare LM", record.lm_ranks)):
            shares += [row | {"with_": with_} | share for share in _share_by_bin(ranks.numpy())]
    found = means(DataFrame(shares), ["label", "vectors", "with_", "first", "last"], ["share"])
    return found.rename(columns={"share_low": "low", "share_high": "high"})


def _share_by_bin(ranks: NDArray[np.int64]) -> Iterator[dict[str, float]]:
    for first, last in _bins(len(ranks)):
        known = ranks[first - 1 : last]
        known = known[known >= 0]
        if len(known):
            yield {"first": first, "last": last, "share": float((known == 0).mean())}


def _bins(n: int) -> Iterator[tuple[int, int]]:
    """1, 2, 3–4, 5–8, … up to the token n; the last bin keeps its full name."""
    first, last = 1, 1
    while first <= n:
        yield first, last
        first, last = last + 1, 2 * last
