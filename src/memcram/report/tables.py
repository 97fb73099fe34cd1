"""Compute the tables of a report, as pure functions of the results table and published values."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.metrics.bound import capacity_bound
from memcram.metrics.information import bits_from_nats, bits_per_dimension, information_gain_nats
from memcram.metrics.published import PublishedResult, published_results
from memcram.metrics.statistics import spread
from memcram.metrics.tokens import (
    decoding_capacity_tokens,
    exact_capacity_tokens,
    saturated,
    token_gain_tokens,
    utilisation,
)
from memcram.report.data import short_model

# Measures of a text, of which Table 1 has the mean, `_std` and the interval `_low`, `_high`.
_GAINS = (
    "token_gain",
    "information_gain_nats",
    "information_gain_bits",
    "bits_per_dimension",
    "utilisation",
)
_CAPACITIES = ["max_tokens", "unbroken_tokens", "next_tokens", "exact_tokens", "gain_n"]
_PAPER = ["paper_max_tokens", "paper_token_gain", "paper_information_gain_nats"]
_OF_MODEL = ["parameters", "width", "vocab_size", "max_positions", "layout"]
_SERIES = ["label", "model", "recipe", "vectors", "source"]
ORDER = ["parameters", "label", "vectors", "published", "source"]
_TABLE_1 = ["label", "model", "recipe", *_OF_MODEL, "vectors", "source", "published", "n"]
_TABLE_1 += ["longest_tokens", *_CAPACITIES, "bound_tokens", *_PAPER]
_TABLE_1 += [f"{gain}{end}" for gain in _GAINS for end in ("", "_std", "_low", "_high")]

_SOURCES = {"pg19": "books"}  # the paper's PG-19 chunks are books


def measured(rows: DataFrame, kind: str) -> DataFrame:
    """Select the rows of one kind of study, without those of ablations."""
    return rows[(rows["kind"] == kind) & (rows["condition"].fillna("") == "")]


def with_passages(rows: DataFrame) -> DataFrame:
    """Rows with the passage each text is a prefix of: prefixes of one are not independent."""
    passages = zip(rows["source"], rows["text_id"], strict=True)
    return rows.assign(passage=[f"{source}|{text_id}" for source, text_id in passages])


def means(data: DataFrame, keys: list[str], values: Sequence[str]) -> DataFrame:
    """Mean and bootstrap 95 % interval (`VALUE_low`, `VALUE_high`) of each value, and n.

    Args:
        data: one row per text, with `passage`.
        keys: columns that tell the groups apart.
        values: columns to summarise.
    """
    columns = [*keys, "n"]
    columns += [f"{value}{end}" for value in values for end in ("", "_low", "_high")]
    found = []
    for key, group in data.groupby(keys) if len(data) else ():
        row = dict(zip(keys, key, strict=True)) | {"n": len(group)}
        for value in values:
            row |= spread_columns(value, group, value)
        found.append(row)
    return DataFrame(found, columns=columns).astype(dict.fromkeys(columns[len(keys) + 1 :], float))


def table_1(rows: DataFrame) -> DataFrame:
    """Max tokens, token gain and information gain × text sources × models.

    One row per label, K and source; docs/metrics.md says what each column means. Gains are
    means over the texts with teacher-forced accuracy ≤ 0.99 (`gain_n` of them), with standard
    deviation and bootstrap 95 % interval; tokens and nats are per text, not per vector. The
    `paper_` columns follow the published code, for its recipe.
    """
    rows = measured(rows, "capacity")
    rows = rows.astype({name: float for name in rows if str(name).startswith("paper_")})
    gains = DataFrame([_gains(text) for text in rows.to_dict("records")], index=rows.index)
    return by_series(rows.join(gains), _cell, _TABLE_1)


def by_series(
    rows: DataFrame, summarise: Callable[[DataFrame], dict[str, Any]], columns: list[str]
) -> DataFrame:
    """One row per label, K and source, ordered by the size of the model."""
    if not len(rows):
        return DataFrame(columns=columns)
    series = [
        dict(zip(_SERIES, key, strict=True)) | summarise(part)
        for key, part in with_passages(rows).groupby(_SERIES)
    ]
    found = DataFrame(series).join(rows.groupby("label")[_OF_MODEL].first(), on="label")
    found = found.assign(published=False).reindex(columns=columns)
    return found.sort_values(ORDER, ignore_index=True, kind="stable")


def _gains(row: Mapping[Any, Any]) -> dict[str, Any]:
    gain = token_gain_tokens(row["mem_right"], row["lm_right"])
    nats = information_gain_nats(row["lm_nats"], row["mem_nats"])
    return {
        "token_gain": gain,
        "information_gain_nats": nats,
        "information_gain_bits": bits_from_nats(nats),
        "bits_per_dimension": bits_per_dimension(nats, row["width"], row["vectors"]),
        "utilisation": utilisation(gain, row["width"], row["vocab_size"], row["vectors"]),
        # Of the best accuracy of the run, as the published code has it.
        "paper_token_gain": token_gain_tokens(
            row["paper_accuracy"] * row["n_counted"], row["lm_right"]
        ),
        "paper_information_gain_nats": information_gain_nats(
            row["paper_lm_nats"], row["paper_mem_nats"]
        ),
    }


def _cell(part: DataFrame) -> dict[str, Any]:
    """Table 1 of the texts of one label, K and source."""
    first, paper = part.iloc[0], part[part["paper_accuracy"].notna()]
    full = part[~part["accuracy"].map(saturated)]
    decoding = decoding_capacity_tokens(_by_length(part, "accuracy"))
    found = {
        "n": len(part),
        "longest_tokens": part["length"].max(),
        "max_tokens": decoding.tokens,
        "unbroken_tokens": decoding.unbroken_tokens,
        "next_tokens": decoding.next_tokens,
        "exact_tokens": exact_capacity_tokens(_by_length(part, "exact")).tokens,
        "gain_n": len(full),
        "bound_tokens": first["vectors"] * capacity_bound(first["width"], first["vocab_size"]),
        "paper_max_tokens": math.nan,
    }
    if len(paper):
        capacity = decoding_capacity_tokens(_by_length(paper, "paper_accuracy"))
        found["paper_max_tokens"] = capacity.tokens
    paper = paper[~paper["paper_accuracy"].map(saturated).astype(bool)]
    found |= {name: paper[name].mean() for name in _PAPER[1:]}
    for gain in _GAINS:
        found |= spread_columns(gain, full, gain)
    return {name: math.nan if value is None else value for name, value in found.items()}


def _by_length(part: DataFrame, column: str) -> dict[int, list[Any]]:
    return {int(str(n)): list(values) for n, values in part.groupby("length")[column]}


def spread_columns(name: str, part: DataFrame, column: str) -> dict[str, float | None]:
    """Mean, standard deviation and interval, resampled by passage."""
    if not len(part):
        return dict.fromkeys((name, f"{name}_std", f"{name}_low", f"{name}_high"))
    found = spread(part[column].astype(float).tolist(), passages=part["passage"].tolist())
    low, high = found.ci95 or (None, None)
    return {name: found.mean, f"{name}_std": found.std, f"{name}_low": low, f"{name}_high": high}


def published_table() -> DataFrame:
    """Return Table 1 and the bounds of kuratov2025 as published, in the columns of `table_1`.

    Standard deviations were published; numbers of texts and intervals were not.
    """
    cells: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in published_results():
        if row.study != "kuratov2025" or not row.text:
            continue
        key = (row.hf_id, row.text, row.n_mem)
        cell = cells.setdefault(key, published_cell(row))
        if row.quantity == "decoding_capacity":
            cell["max_tokens"] = row.mean
        elif row.quantity == "token_gain":
            cell["token_gain"], cell["token_gain_std"] = row.mean, row.std
            cell["utilisation"] = row.mean / cell["bound_tokens"]
        elif row.quantity == "information_gain":
            for end, nats in (("", row.mean), ("_std", row.std)):
                if nats is not None:
                    cell[f"information_gain_nats{end}"] = nats
                    cell[f"information_gain_bits{end}"] = bits_from_nats(nats)
                    of_vectors = bits_per_dimension(nats, row.width, row.n_mem)
                    cell[f"bits_per_dimension{end}"] = of_vectors
    table = DataFrame(list(cells.values()), columns=_TABLE_1)
    return table.sort_values(ORDER, ignore_index=True, kind="stable")


def published_cell(row: PublishedResult) -> dict[str, Any]:
    """Columns that every published value of a model has."""
    return {
        "label": short_model(row.model),
        "model": row.hf_id,
        "recipe": row.study,
        "parameters": int(row.params_b * 1e9),
        "width": row.width,
        "vocab_size": row.vocab,
        "vectors": row.n_mem,
        "source": _SOURCES.get(row.text, row.text),
        "published": True,
        "bound_tokens": row.n_mem * capacity_bound(row.width, row.vocab),
    }


def with_published(own: DataFrame, published: DataFrame) -> DataFrame:
    """Add published values to a table, in the block of the label they belong to.

    A published model that was measured in several settings, or never, gets a separate block.
    """
    if not len(own):
        return published
    names = own.groupby("model")["label"].unique()
    labels = {model: found[0] for model, found in names.items() if len(found) == 1}
    sizes = own.groupby("model")["parameters"].first().to_dict()
    published = published.assign(
        label=[labels.get(row.model, row.label) for row in published.itertuples()],
        parameters=[sizes.get(row.model, row.parameters) for row in published.itertuples()],
    )
    joined = pd.concat([own.astype(object), published.astype(object)], ignore_index=True)
    return joined.infer_objects().sort_values(ORDER, ignore_index=True, kind="stable")
