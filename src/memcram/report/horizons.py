"""Compute the table of horizons: means, ratios paired by text, and published values."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.metrics.published import published_results
from memcram.metrics.statistics import paired_ratio
from memcram.metrics.tokens import mean_horizon
from memcram.report.data import as_dicts
from memcram.report.tables import ORDER, by_series, measured, published_cell, spread_columns

HORIZONS = ["label", "model", "recipe", "parameters", "vectors", "source", "published", "n"]
HORIZONS += [f"horizon_tokens{end}" for end in ("", "_std", "_low", "_high")]
HORIZONS += ["restricted_tokens", "limit_tokens", "censored_share", "budget_ended"]
HORIZONS += ["budget_token_steps", "token_steps", "width", "vocab_size", "group", "name"]
HORIZONS += ["best", "ratio", "ratio_low", "ratio_high", "ratio_n"]

_VARIANTS = {
    "exact_horizon": "",
    "exact_horizon_low_dim": "+low-dim",
    "exact_horizon_temperature_0.25": "@T=0.25",
}
_SAME_SIZE = 0.1  # relative difference in parameters up to which an architecture is the same


def horizon_table(rows: DataFrame) -> DataFrame:
    """Mean exact horizon (tokens) of each label, K and source, and the censored fraction.

    `horizon_tokens` includes censored horizons as they are, so it is a lower bound where there are
    any; `restricted_tokens` allows for censoring up to `limit_tokens`. `budget_ended` is the number
    of texts that the budget ended, for which both means are lower bounds; it is missing where the
    settings of a text's recipe were not recorded. `token_steps` is the mean per text. `group` is
    the model, `name` the settings that differ. `ratio` is the mean of the `best` label of the same
    model, K, source and budget in token-steps over this one, with its interval, over the `ratio_n`
    texts of both. Models are in the order of `rows`.
    """
    rows = measured(rows, "horizon")
    found = by_series(rows, _horizon, HORIZONS)
    if not len(found):
        return found
    parts = [str(label).partition(" · ") for label in found["label"]]
    found = found.assign(
        group=[group for group, _, _ in parts],
        name=[name or recipe for (_, _, name), recipe in zip(parts, found["recipe"], strict=True)],
    )
    ratios = DataFrame(list(_ratios(found, rows)), index=found.index)
    found = found.assign(**{str(name): ratios[name] for name in ratios})
    first = {model: i for i, model in enumerate(rows["model"].unique())}
    return found.sort_values("model", key=lambda models: models.map(first), kind="stable")


def _horizon(part: DataFrame) -> dict[str, Any]:
    of = mean_horizon(part["horizon"].tolist(), part["censored"].tolist())
    ended = part["budget_ended"] if "budget_ended" in part else pd.Series([None])
    budgets = set(part["budget_token_steps"]) if "budget_token_steps" in part else {None}
    return spread_columns("horizon_tokens", part, "horizon") | {
        "n": len(part),
        "restricted_tokens": of.restricted_tokens,
        "limit_tokens": of.limit_tokens,
        "censored_share": of.censored_share,
        "budget_ended": None if ended.isna().any() else int(ended.sum()),
        "budget_token_steps": budgets.pop() if len(budgets) == 1 else None,
        "token_steps": part["token_steps"].mean(),
    }


def _ratios(found: DataFrame, rows: DataFrame) -> Iterator[dict[str, Any]]:
    """Ratio of the best label to each row of the table, over the texts that both measured.

    Rows with another budget are not compared: more token-steps hold more tokens.
    """
    keys = ["label", "vectors", "source"]
    texts = {key: part.groupby("text_id")["horizon"].max() for key, part in rows.groupby(keys)}
    budgets = found["budget_token_steps"].astype(float).fillna(0.0)  # 0: not known
    for i, row in zip(found.index, as_dicts(found), strict=True):
        rivals = found[
            (found["group"] == row["group"])
            & (found["vectors"] == row["vectors"])
            & (found["source"] == row["source"])
            & (budgets == budgets[i])
        ]
        best = rivals.loc[rivals["horizon_tokens"].astype(float).idxmax()]
        over, under = (texts[one["label"], row["vectors"], row["source"]] for one in (best, row))
        shared = sorted(set(over.index) & set(under.index))
        yield {"best": best["name"]} | (
            {} if best["label"] == row["label"] else _ratio(over[shared], under[shared])
        )


def _ratio(over: "pd.Series[int]", under: "pd.Series[int]") -> dict[str, Any]:
    if not under.sum():
        return {}
    found = paired_ratio(over.tolist(), under.tolist())
    low, high = found.ci95 or (None, None)
    return {"ratio": found.ratio, "ratio_low": low, "ratio_high": high, "ratio_n": found.n}


def published_horizons() -> DataFrame:
    """Return mean exact horizons (tokens) on PG-19 of tarasov2026 and its authors' repository.

    Those of the repository are the longest prefixes that are correct under teacher forcing.
    """
    rows = []
    for row in published_results():
        if row.quantity not in _VARIANTS:
            continue
        cell, recipe = published_cell(row), row.study + _VARIANTS[row.quantity]
        few = row.study == "tarasov2026-repo" and "temperature" not in row.quantity
        cell |= {"recipe": recipe, "group": cell["label"], "name": recipe, "n": 10 if few else 50}
        rows.append(cell | {"horizon_tokens": row.mean, "horizon_tokens_std": row.std})
    table = DataFrame(rows, columns=HORIZONS)
    return table.sort_values([*ORDER, "recipe"], ignore_index=True, kind="stable")


def with_published_horizons(own: DataFrame, published: DataFrame) -> DataFrame:
    """Add published means, those of a measured model's architecture to the group of that model.

    An architecture is the same if width and vocabulary are, and the number of parameters within
    10 %: a base model counts for its instruction-tuned and quantised versions. `ratio` is then the
    mean of the best label of the same K and source over the published mean; it has no interval,
    since the texts are others.
    """
    if not len(own):
        return published
    frames, taken = [], set()
    for group, part in own.groupby("group", sort=False):
        first = part.iloc[0]
        same = published[
            (published["width"] == first["width"])
            & (published["vocab_size"] == first["vocab_size"])
            & ((published["parameters"] / first["parameters"] - 1).abs() <= _SAME_SIZE)
        ]
        taken |= set(same.index)
        near = [_beside(row, part) for row in as_dicts(same)]
        both = [part.astype(object), DataFrame(near, columns=HORIZONS).astype(object)]
        block = pd.concat(both[: 1 + bool(near)], ignore_index=True).assign(group=group)
        order = ["vectors", "published", "horizon_tokens"]
        frames.append(block.sort_values(order, ascending=[True, True, False], kind="stable"))
    others = published[~published.index.isin(taken)]
    filled = [frame.astype(object) for frame in (*frames, others) if len(frame)]
    return pd.concat(filled, ignore_index=True).infer_objects()


def _beside(row: dict[str, Any], own: DataFrame) -> dict[str, Any]:
    """A published row with the ratio of the best measured mean to it."""
    same = own[(own["vectors"] == row["vectors"]) & (own["source"] == row["source"])]
    if not len(same):
        return row
    best = same.loc[same["horizon_tokens"].astype(float).idxmax()]
    return row | {"best": best["name"], "ratio": best["horizon_tokens"] / row["horizon_tokens"]}
