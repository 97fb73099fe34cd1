"""From the results table to means with intervals: the figures of tables and plots.

A *series* is one model, recipe, kind, condition, source and K of a study; a *cell* is a series at
one length. The choices are argued in docs/metrics.md. Needs the extra `study` (pandas).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from memcram.errors import UsageError
from memcram.metrics.bound import capacity_bound
from memcram.metrics.information import (
    bits_per_byte,
    bits_per_dimension,
    cross_entropy_line,
    information_gain_bits,
    information_gain_nats,
)
from memcram.metrics.statistics import spread, wilson95
from memcram.metrics.tokens import (
    ACCURACY_THRESHOLD,
    Capacity,
    decoding_capacity_tokens,
    exact_capacity_tokens,
    mean_horizon,
    saturated,
    token_gain_tokens,
    utilisation,
)
from memcram.report.lengths import LengthGroups
from memcram.study.results import ResultRow, column_types

SERIES = ("study", "model", "recipe", "kind", "condition", "source", "vectors")
GAINS = (
    "token_gain_tokens",
    "utilisation",
    "information_gain_nats",
    "information_gain_bits",
    "bits_per_dimension",
)
PAPER_GAINS = ("paper_token_gain_tokens", "paper_information_gain_nats")
_OF_ALL = ("accuracy", *GAINS, "first_nats", "lm_bits_per_byte", "paper_accuracy")
_EXACT_SHARE = 0.5
# A horizon grows as far as it gets, so the tokens offered do not set it; elsewhere they do.
_HORIZONS = ("horizon", "depth")

_ASKED = LengthGroups()


def results_table(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """The results table of these rows: one column a field, in the order of `ResultRow`."""
    return pd.DataFrame([asdict(row) for row in rows], columns=list(column_types()))


def measures(table: pd.DataFrame, groups: LengthGroups = _ASKED) -> pd.DataFrame:
    """The results table with the measures of each text beside it, one row a text.

    Added: the `GAINS` and `PAPER_GAINS`, `lm_bits_per_byte`, `group` (tokens, see `LengthGroups`),
    `passage` (the text it is a prefix of), `saturated` and `paper_saturated`. The paper's own
    variants are from the best accuracy and the smallest loss of the run, and NaN for other recipes;
    its token gain is paper_accuracy · n_counted − lm_right.

    Raises:
        UsageError: no rows, or a column of the results table is missing.
    """
    missing = [name for name in column_types() if name not in table.columns]
    if missing or table.empty:
        raise UsageError(
            f"table: got {len(table)} rows without the columns {missing}, "
            "allowed: one row or more with all columns of the results table"
        )
    # An empty condition comes back from CSV as a missing one, which no group would take.
    condition = table["condition"].astype(object).fillna("")
    kept = table.assign(condition=condition).reset_index(drop=True)
    added = [_of_text(row, groups) for row in kept.to_dict("records")]
    return pd.concat([kept, pd.DataFrame(added)], axis=1)


def _of_text(row: Mapping[Any, Any], groups: LengthGroups) -> dict[str, Any]:
    gain = token_gain_tokens(row["mem_right"], row["lm_right"])
    nats = information_gain_nats(row["lm_nats"], row["mem_nats"])
    paper = not pd.isna(row["paper_accuracy"])
    # Behind a left context there are no vectors to share the gain out to.
    none = not row["vectors"]
    best_right = row["paper_accuracy"] * row["n_counted"] if paper else math.nan
    return {
        "group": groups.of(row["source"], row["length"], row["tokens"]),
        "passage": (row["source"], row["text_id"]),
        "saturated": saturated(row["accuracy"]),
        "paper_saturated": paper and saturated(row["paper_accuracy"]),
        "token_gain_tokens": gain,
        "utilisation": math.nan
        if none
        else utilisation(gain, row["width"], row["vocab_size"], row["vectors"]),
        "information_gain_nats": nats,
        "information_gain_bits": information_gain_bits(row["lm_nats"], row["mem_nats"]),
        "bits_per_dimension": math.nan
        if none
        else bits_per_dimension(nats, row["width"], row["vectors"]),
        "lm_bits_per_byte": bits_per_byte(row["lm_nats"], row["utf8_bytes"]),
        "paper_token_gain_tokens": (
            token_gain_tokens(best_right, row["lm_right"]) if paper else math.nan
        ),
        "paper_information_gain_nats": (
            information_gain_nats(row["paper_lm_nats"], row["paper_mem_nats"])
            if paper
            else math.nan
        ),
    }


def summarise_cells(
    table: pd.DataFrame, groups: LengthGroups = _ASKED, seed: int = 0
) -> pd.DataFrame:
    """One row a cell: a series at one length (`length`, in tokens, see `LengthGroups`).

    Columns beside `SERIES` and `length`, with NaN where there is nothing to tell:

    - `n` texts, `passages` they are from, `unsaturated` texts among them;
    - `X_mean`, `_std`, `_ci95_low`, `_ci95_high`, `_n` for X = accuracy, the `GAINS`, `first_nats`,
      `lm_bits_per_byte`, `paper_accuracy` over all texts; `unsaturated_X` for the `GAINS` over
      the texts that are not saturated; and the `PAPER_GAINS` over those with paper_accuracy ≤ 0.99;
    - `exact_share`, with `_ci95_low`, `_ci95_high` (Wilson, over passages);
    - `horizon_tokens_…` as for X, `horizon_censored_share`, `horizon_restricted_tokens`,
      `horizon_limit_tokens`, see `mean_horizon`;
    - `capacity_bound_tokens` of the K vectors at 16 bits.

    Args:
        table: the results table.
        groups: which texts count as equally long.
        seed: of the bootstrap.

    Raises:
        UsageError: no rows, or a column of the results table is missing.
    """
    return pd.DataFrame(
        [
            {**_named((*SERIES, "length"), key), **_common(part, seed), **_horizon(part, seed)}
            for key, part in measures(table, groups).groupby([*SERIES, "group"], sort=True)
        ]
    )


def summarise_series(
    table: pd.DataFrame, groups: LengthGroups = _ASKED, seed: int = 0
) -> pd.DataFrame:
    """One row a series, over all its lengths; the published table of gains is of this kind.

    Columns: those of `summarise_cells` but `length`, and

    - `lengths`: how many there are, `longest_tokens`: the largest;
    - `decoding_capacity_tokens`, with `_unbroken` and `_next` before the unit, and the same for
      `exact_capacity` (share 0.5) and `paper_decoding_capacity`, see `Capacity`; NaN for a series
      of kind `horizon`, where lengths are only offered;
    - `threshold_nats`, `slope`, `slope_ci95_low`, `slope_ci95_high`, `slope_n` over the texts that
      are not saturated, see `CrossEntropyLine`; the same with `paper_` in front.

    Means over all texts of a series depend on its lengths; those over the unsaturated do so less.
    The horizon is not averaged over several lengths, except in a series of kind `horizon`.

    Args:
        table: the results table.
        groups: which texts count as equally long.
        seed: of the bootstrap.

    Raises:
        UsageError: no rows, or a column of the results table is missing.
    """
    return pd.DataFrame(
        [
            {
                **_named(SERIES, key),
                "lengths": part["group"].nunique(),
                "longest_tokens": part["group"].max(),
                **_common(part, seed),
                **_horizon(part, seed),
                **_capacities(part),
                **_line("", part[~part["saturated"]], seed),
                **_line("paper_", _paper_unsaturated(part), seed),
            }
            for key, part in measures(table, groups).groupby(list(SERIES), sort=True)
        ]
    )


def _named(names: Sequence[str], key: Any) -> dict[str, Any]:
    return dict(zip(names, key, strict=True))


def _paper_unsaturated(part: pd.DataFrame) -> pd.DataFrame:
    return part[part["paper_accuracy"].notna() & ~part["paper_saturated"]]


def _common(part: pd.DataFrame, seed: int) -> dict[str, Any]:
    unsaturated, passages = part[~part["saturated"]], part["passage"].nunique()
    exact = float(part["exact"].mean())
    low, high = wilson95(exact, passages)
    first = part.iloc[0]
    found: dict[str, Any] = {
        "n": len(part),
        "passages": passages,
        "unsaturated": len(unsaturated),
        "exact_share": exact,
        "exact_share_ci95_low": low,
        "exact_share_ci95_high": high,
        "capacity_bound_tokens": first["vectors"]
        * capacity_bound(first["width"], first["vocab_size"]),
    }
    for name in _OF_ALL:
        found |= _spread_columns(name, part, name, seed)
    for name in GAINS:
        found |= _spread_columns(f"unsaturated_{name}", unsaturated, name, seed)
    for name in PAPER_GAINS:
        found |= _spread_columns(name, _paper_unsaturated(part), name, seed)
    return found


def _spread_columns(prefix: str, part: pd.DataFrame, name: str, seed: int) -> dict[str, Any]:
    """Mean and spread of the texts that have the value; `_n` says how many do."""
    known = part[part[name].notna()]
    names = [f"{prefix}_{end}" for end in ("mean", "std", "ci95_low", "ci95_high", "n")]
    if known.empty:
        return dict(zip(names, [math.nan] * 4 + [0], strict=True))
    found = spread(known[name].tolist(), seed, known["passage"].tolist())
    std = math.nan if found.std is None else found.std
    return dict(zip(names, [found.mean, std, *_ends(found.ci95), found.n], strict=True))


def _ends(interval: tuple[float, float] | None) -> tuple[float, float]:
    return interval or (math.nan, math.nan)


def _horizon(part: pd.DataFrame, seed: int) -> dict[str, Any]:
    pooled = part["group"].nunique() > 1 and part["kind"].iloc[0] not in _HORIZONS
    of = part.iloc[:0] if pooled else part
    found = _spread_columns("horizon_tokens", of, "horizon", seed)
    mean = None if pooled else mean_horizon(of["horizon"].tolist(), of["censored"].tolist())
    return found | {
        "horizon_censored_share": mean.censored_share if mean else math.nan,
        "horizon_restricted_tokens": mean.restricted_tokens if mean else math.nan,
        "horizon_limit_tokens": mean.limit_tokens if mean else math.nan,
    }


def _capacities(part: pd.DataFrame) -> dict[str, float]:
    none = Capacity(None, None, None)
    decoding = exact = paper = none
    if part["kind"].iloc[0] not in _HORIZONS:
        decoding = decoding_capacity_tokens(_by_length(part, "accuracy"), ACCURACY_THRESHOLD)
        exact = exact_capacity_tokens(_by_length(part, "exact"), _EXACT_SHARE)
        published = part[part["paper_accuracy"].notna()]
        if not published.empty:
            paper = decoding_capacity_tokens(_by_length(published, "paper_accuracy"))
    return (
        _capacity_columns("decoding_capacity", decoding)
        | _capacity_columns("exact_capacity", exact)
        | _capacity_columns("paper_decoding_capacity", paper)
    )


def _capacity_columns(name: str, capacity: Capacity) -> dict[str, float]:
    found = {
        f"{name}_tokens": capacity.tokens,
        f"{name}_unbroken_tokens": capacity.unbroken_tokens,
        f"{name}_next_tokens": capacity.next_tokens,
    }
    return {key: math.nan if tokens is None else tokens for key, tokens in found.items()}


def _by_length(part: pd.DataFrame, name: str) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for length, value in zip(part["group"].tolist(), part[name].tolist(), strict=True):
        found.setdefault(length, []).append(value)
    return found


def _line(prefix: str, part: pd.DataFrame, seed: int) -> dict[str, float]:
    names = [
        f"{prefix}{end}"
        for end in ("threshold_nats", "slope", "slope_ci95_low", "slope_ci95_high", "slope_n")
    ]
    known = part[part[f"{prefix}lm_nats"].notna() & part[f"{prefix}mem_nats"].notna()]
    if known.empty:
        return dict(zip(names, [math.nan] * 4 + [0], strict=True))
    line = cross_entropy_line(
        known[f"{prefix}lm_nats"].tolist(),
        known[f"{prefix}mem_nats"].tolist(),
        seed,
        known["passage"].tolist(),
    )
    slope = math.nan if line.slope is None else line.slope
    values = [line.threshold_nats, slope, *_ends(line.slope_ci95), line.n]
    return dict(zip(names, values, strict=True))
