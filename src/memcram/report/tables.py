"""The tables of a report: pure functions of the results table."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.metrics.bound import capacity_bound
from memcram.metrics.information import bits_from_nats
from memcram.metrics.published import PublishedResult, published_results
from memcram.report.data import short_model
from memcram.report.summary import summarise_series

# The paper's PG-19 chunks are books.
_SOURCE_NAMES = {"pg19": "books"}
_PUBLISHED = "kuratov2025"


def measured(rows: DataFrame, kind: str) -> DataFrame:
    """Rows of one kind of study, without those of ablations."""
    return rows[(rows["kind"] == kind) & (rows["condition"].fillna("") == "")]


# Columns of Table 1 that are columns of `summarise_series` under a shorter name.
_GAINS = ("token_gain", "information_gain_nats", "information_gain_bits", "utilisation")
_FROM_SUMMARY = {
    "max_tokens": "decoding_capacity_tokens",
    "unbroken_tokens": "decoding_capacity_unbroken_tokens",
    "next_tokens": "decoding_capacity_next_tokens",
    "exact_tokens": "exact_capacity_tokens",
    "gain_n": "unsaturated",
    "bound_tokens": "capacity_bound_tokens",
    "paper_max_tokens": "paper_decoding_capacity_tokens",
    "paper_token_gain": "paper_token_gain_tokens_mean",
    "paper_information_gain_nats": "paper_information_gain_nats_mean",
} | {
    f"{gain}{end}": f"unsaturated_{gain}{'_tokens' * (gain == 'token_gain')}_{long}"
    for gain in _GAINS
    for end, long in (("", "mean"), ("_std", "std"), ("_low", "ci95_low"), ("_high", "ci95_high"))
}
_ORDER = ["parameters", "label", "vectors", "published", "source"]
_MODEL = ["model", "recipe", "parameters", "width", "vocab_size", "max_positions"]
_CELL_COLUMNS = ["label", *_MODEL, "vectors", "source", "published", "n", "longest_tokens"]
_CELL_COLUMNS += list(_FROM_SUMMARY)


def table_1(rows: DataFrame) -> DataFrame:
    """Max tokens, token gain and information gain × text sources × models.

    One row for each label, K and source; docs/metrics.md says what each column means. Gains are
    means over the texts with teacher-forced accuracy ≤ 0.99 (`gain_n` of them), with standard
    deviation and bootstrap 95 % interval; tokens and nats are per text, not per vector. The
    `paper_` columns count as the published code does, for its recipe.
    """
    rows = measured(rows, "capacity")
    if not len(rows):
        return DataFrame(columns=_CELL_COLUMNS)
    summary = _of_series(rows)
    found = summary[["label", "model", "recipe", "vectors", "source", "n", "longest_tokens"]]
    found = found.assign(published=False, **{a: summary[b] for a, b in _FROM_SUMMARY.items()})
    found = found.join(rows.groupby("label")[_MODEL[2:]].first(), on="label")
    return found[_CELL_COLUMNS].sort_values(_ORDER, ignore_index=True, kind="stable")


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
            cell["information_gain_bits"] = bits_from_nats(row.mean)
    table = pd.DataFrame(list(cells.values()), columns=_CELL_COLUMNS)
    return table.sort_values(_ORDER, ignore_index=True, kind="stable")


def beside_published(table: DataFrame) -> DataFrame:
    """Table 1 with the published values under it, in the block of the label they belong to.

    A published model that was measured in several settings, or never, keeps a block of its own.
    """
    published = published_table()
    if not len(table):
        return published
    own = table.groupby("model")["label"].unique()
    names = {model: names[0] for model, names in own.items() if len(names) == 1}
    published["label"] = published["model"].map(names).fillna(published["label"])
    size = table.groupby("model")["parameters"].first()
    published["parameters"] = published["model"].map(size).fillna(published["parameters"])
    joined = pd.concat([table.astype(object), published.astype(object)], ignore_index=True)
    return joined.infer_objects().sort_values(_ORDER, ignore_index=True, kind="stable")


def _kuratov() -> Iterator[PublishedResult]:
    return (row for row in published_results() if row.study == _PUBLISHED)


def _published_cell(row: PublishedResult, source: str) -> dict[str, Any]:
    return {
        "label": short_model(row.model),
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
            "label": row.model,
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


_HORIZONS = {
    "horizon_tokens": "horizon_tokens_mean",
    "horizon_tokens_std": "horizon_tokens_std",
    "horizon_tokens_low": "horizon_tokens_ci95_low",
    "horizon_tokens_high": "horizon_tokens_ci95_high",
    "censored_share": "horizon_censored_share",
    "restricted_tokens": "horizon_restricted_tokens",
    "limit_tokens": "horizon_limit_tokens",
}


def horizon_table(rows: DataFrame) -> DataFrame:
    """Mean exact horizon (tokens) of each label, K and source, and the censored share.

    `horizon_tokens` takes a censored horizon as it is, so it is a lower bound where any is;
    `restricted_tokens` allows for censoring up to `limit_tokens`.
    """
    columns = ["label", "recipe", "vectors", "source", "n", *_HORIZONS]
    rows = measured(rows, "horizon")
    if not len(rows):
        return DataFrame(columns=columns)
    summary = _of_series(rows)
    found = summary[["label", "recipe", "vectors", "source", "n"]]
    found = found.assign(**{a: summary[b] for a, b in _HORIZONS.items()})
    size = found["label"].map(rows.groupby("label")["parameters"].first())
    found = found.assign(parameters=size).sort_values(
        ["parameters", "label", "vectors", "source"], ignore_index=True, kind="stable"
    )
    return found[columns]


def _of_series(rows: DataFrame) -> DataFrame:
    """`summarise_series`, where a label of the report stands for a study: it may span several."""
    renamed = rows.drop(columns="label").assign(study=rows["label"])
    return summarise_series(renamed).rename(columns={"study": "label"})
