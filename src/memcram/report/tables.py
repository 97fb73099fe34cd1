"""The tables of a report: pure functions of the results table."""

from collections.abc import Iterator
from math import log
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.metrics.bound import capacity_bound
from memcram.metrics.published import PublishedResult, published_results
from memcram.metrics.statistics import Spread, spread
from memcram.report.data import short_model
from memcram.report.measures import EXACT_SHARE, THRESHOLD, capacity, unsaturated

NATS_PER_BIT = log(2)
# The paper's PG-19 chunks are books.
_SOURCE_NAMES = {"pg19": "books"}
_PUBLISHED = "kuratov2025"


def measured(rows: DataFrame, kind: str) -> DataFrame:
    """Rows of one kind of study, without those of ablations."""
    return rows[(rows["kind"] == kind) & (rows["condition"].fillna("") == "")]


def table_1(rows: DataFrame) -> DataFrame:
    """Max tokens, token gain and information gain × text sources × models.

    One row for each series, K and source. Gains are means over the texts with teacher-forced
    accuracy ≤ 0.99 (`gain_n` of them), with standard deviation and bootstrap 95 % interval; tokens
    and nats are per text, not per vector.
    """
    cells = measured(rows, "capacity").groupby(["series", "vectors", "source"], sort=False)
    found = [_cell(group) for _, group in cells]
    table = pd.DataFrame(found, columns=_CELL_COLUMNS)
    return table.sort_values(
        ["parameters", "series", "vectors", "source"], ignore_index=True, kind="stable"
    )


_CELL_COLUMNS = ["series", "model", "recipe", "parameters", "width", "vocab_size", "max_positions", "vectors", "source", "published", "n", "longest_tokens", "max_tokens", "next_tokens", "max_n", "exact_tokens", "gain_n", "token_gain", "token_gain_std", "token_gain_low", "token_gain_high", "information_gain_nats", "information_gain_nats_std", "information_gain_nats_low", "information_gain_nats_high", "information_gain_bits", "bound_tokens", "utilisation",]


def _cell(group: DataFrame) -> dict[str, Any]:
    first = group.iloc[0]
    reached = capacity(group, "accuracy", THRESHOLD)
    exact = capacity(group.assign(exact=group["exact"].astype(float)), "exact", EXACT_SHARE)
    full = unsaturated(group)
    bound = float(first["vectors"]) * capacity_bound(int(first["width"]), int(first["vocab_size"]))
    cell: dict[str, Any] = {
        "series": first["series"],
        "model": first["model"],
        "recipe": first["recipe"],
        "parameters": first["parameters"],
        "width": first["width"],
        "vocab_size": first["vocab_size"],
        "max_positions": first["max_positions"],
        "vectors": first["vectors"],
        "source": first["source"],
        "published": False,
        "n": len(group),
        "longest_tokens": group["length"].max(),
        "max_tokens": reached.tokens,
        "next_tokens": reached.next_tokens,
        "max_n": reached.n,
        "exact_tokens": exact.tokens,
        "gain_n": len(full),
        "bound_tokens": bound,
    }
    if len(full):
        tokens = spread(list(full["mem_right"] - full["lm_right"]))
        nats = spread(list(full["lm_nats"] - full["mem_nats"]))
        cell |= _named("token_gain", tokens) | _named("information_gain_nats", nats)
        cell["information_gain_bits"] = nats.mean / NATS_PER_BIT
        cell["utilisation"] = tokens.mean / bound
    return cell


def _named(name: str, found: Spread) -> dict[str, float | None]:
    low, high = found.ci95 or (None, None)
    return {name: found.mean, f"{name}_std": found.std, f"{name}_low": low, f"{name}_high": high}


def published_table() -> DataFrame:
    """Table 1 and the bounds of kuratov2025 as printed, in the columns of `table_1`.

    Standard deviations are printed there; numbers of texts and intervals are not.
    """
    cells: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in _kuratov():
        if not row.text:
            continue
        source = _SOURCE_NAMES.get(row.text, row.text)
        key = (row.hf_id, source, row.n_mem)
        cell = cells.setdefault(key, _published_cell(row, source))
        if row.quantity == "decoding_capacity":
            cell["max_tokens"] = row.mean
        elif row.quantity == "token_gain":
            cell["token_gain"], cell["token_gain_std"] = row.mean, row.std
            cell["utilisation"] = row.mean / cell["bound_tokens"]
        elif row.quantity == "information_gain":
            cell["information_gain_nats"], cell["information_gain_nats_std"] = row.mean, row.std
            cell["information_gain_bits"] = row.mean / NATS_PER_BIT
    table = pd.DataFrame(list(cells.values()), columns=_CELL_COLUMNS)
    return table.sort_values(
        ["parameters", "series", "vectors", "source"], ignore_index=True, kind="stable"
    )


def beside_published(table: DataFrame) -> DataFrame:
    """Table 1 with the published values under it, in the block of the series they belong to.

    A published model that was measured in several settings, or never, keeps a block of its own.
    """
    published = published_table()
    if not len(table):
        return published
    own = table.groupby("model")["series"].unique()
    names = {model: names[0] for model, names in own.items() if len(names) == 1}
    published["series"] = published["model"].map(names).fillna(published["series"])
    size = table.groupby("model")["parameters"].first()
    published["parameters"] = published["model"].map(size).fillna(published["parameters"])
    joined = pd.concat([table.astype(object), published.astype(object)], ignore_index=True)
    return joined.infer_objects().sort_values(
        ["parameters", "series", "vectors", "published", "source"], ignore_index=True, kind="stable"
    )


def _kuratov() -> Iterator[PublishedResult]:
    return (row for row in published_results() if row.study == _PUBLISHED)


def _published_cell(row: PublishedResult, source: str) -> dict[str, Any]:
    return {
        "series": short_model(row.model),
        "model": row.hf_id,
        "recipe": row.study,
        "parameters": int(row.params_b * 1e9),
        "width": row.width,
        "vocab_size": row.vocab,
        "vectors": row.n_mem,
        "source": source,
        "published": True,
        "bound_tokens": row.n_mem * capacity_bound(row.width, row.vocab),
    }


def published_horizons() -> DataFrame:
    """Mean exact horizons (tokens) of tarasov2026 as printed, over 50 PG-19 samples each."""
    rows = [
        {
            "series": row.model,
            "model": row.hf_id,
            "recipe": "tarasov2026"
            + ("+low-dim" if row.quantity == "exact_horizon_low_dim" else ""),
            "parameters": int(row.params_b * 1e9),
            "source": _SOURCE_NAMES.get(row.text, row.text),
            "vectors": row.n_mem,
            "horizon_tokens": row.mean,
        }
        for row in published_results()
        if row.quantity.startswith("exact_horizon")
    ]
    return pd.DataFrame(rows)


def horizon_table(rows: DataFrame) -> DataFrame:
    """Mean exact horizon (tokens) of each series, K and source, and the censored share.

    The mean takes a censored horizon as it is, so it is a lower bound where any is censored.
    """
    found = []
    keys = ["series", "vectors", "source"]
    for (series, vectors, source), group in measured(rows, "horizon").groupby(keys):
        tokens = spread(list(group["horizon"].astype(float)))
        low, high = tokens.ci95 or (None, None)
        found.append(
            {
                "series": series,
                "vectors": vectors,
                "source": source,
                "n": tokens.n,
                "horizon_tokens": tokens.mean,
                "horizon_std": tokens.std,
                "horizon_low": low,
                "horizon_high": high,
                "median_tokens": float(group["horizon"].median()),
                "censored_share": float(group["censored"].astype(float).mean()),
            }
        )
    columns = ["series", "vectors", "source", "n", "horizon_tokens", "horizon_std", "horizon_low"]
    columns += ["horizon_high", "median_tokens", "censored_share"]
    return pd.DataFrame(found, columns=columns)
