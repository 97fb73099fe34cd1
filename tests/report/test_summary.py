"""From rows to means with intervals."""

import io
import math
from dataclasses import replace

import pandas as pd
import pytest

from memcram.errors import UsageError
from memcram.report.lengths import LengthGroups
from memcram.report.summary import (
    GAINS,
    SERIES,
    measures,
    results_table,
    summarise_cells,
    summarise_series,
)
from memcram.study.results import ResultRow

# Width 4 and 16 tokens in the vocabulary: a bound of 4 · 16 / log₂ 16 = 16 tokens a vector.
BASE = ResultRow(
    task="t",
    study="s",
    kind="capacity",
    condition="",
    model="m",
    revision=None,
    fingerprint="f",
    parameters=10,
    layers=2,
    width=4,
    vocab_size=16,
    max_positions=None,
    recipe="default",
    dtype="float32",
    layout="mem",
    first_token_given=False,
    bos_in_text=False,
    source="books",
    text_id="x",
    origin="one.txt",
    offset=0,
    length=8,
    tokens=8,
    utf8_bytes=40,
    vectors=1,
    seed=0,
    outcome="right",
    steps=10,
    best_step=9,
    token_steps=80,
    seconds=1.0,
    n_counted=8,
    n_right=8,
    accuracy=1.0,
    horizon=8,
    exact=True,
    censored=True,
    min_margin=1.0,
    first_nats=0.5,
    mem_nats=0.5,
    lm_nats=20.0,
    mem_right=7,
    lm_right=2,
)
LONG = replace(BASE, length=16, tokens=16, n_counted=16, censored=False, exact=False, horizon=3)
# Two passages, each at 8 tokens (saturated) and at 16 (not). Token gains: 5, 4; 10, 8.
# Information gains: 20 − 0.5, 24 − 0.5; 40 − 10 = 30, 50 − 22 = 28 nats.
LONG_ONE = {"accuracy": 15 / 16, "n_right": 15, "mem_right": 14, "lm_right": 4}
LONG_TWO = {"accuracy": 14 / 16, "n_right": 14, "mem_right": 13, "lm_right": 5}
TWO = {"text_id": "two", "exact": False, "censored": False}
ROWS = [
    BASE,
    replace(BASE, lm_nats=24.0, lm_right=3, horizon=5, **TWO),
    replace(LONG, lm_nats=40.0, mem_nats=10.0, **LONG_ONE),
    replace(LONG, lm_nats=50.0, mem_nats=22.0, first_nats=1.5, horizon=6, **LONG_TWO, **TWO),
]


@pytest.fixture(scope="module")
def table():
    return results_table(ROWS)


def test_series_by_hand(table):
    (row,) = summarise_series(table).to_dict("records")
    assert {name: row[name] for name in SERIES} == {name: getattr(BASE, name) for name in SERIES}
    assert (row["n"], row["passages"], row["unsaturated"]) == (4, 2, 2)
    assert (row["lengths"], row["longest_tokens"]) == (2, 16)
    assert row["capacity_bound_tokens"] == 16.0
    # Means at 8 and 16 tokens: 1 and 29/32 = 0.906; exact: 1/2 and 0.
    assert row["decoding_capacity_tokens"] == row["decoding_capacity_unbroken_tokens"] == 8
    assert row["decoding_capacity_next_tokens"] == 16
    assert (row["exact_capacity_tokens"], row["exact_share"]) == (8, 0.25)
    # All: (5 + 4 + 10 + 8) / 4 = 6.75; not saturated: 9, with std √2; of the bound 9/16.
    assert row["token_gain_tokens_mean"] == 6.75
    assert row["unsaturated_token_gain_tokens_mean"] == 9.0
    assert row["unsaturated_token_gain_tokens_std"] == pytest.approx(math.sqrt(2))
    assert row["unsaturated_token_gain_tokens_ci95_low"] == 8.0
    assert row["unsaturated_token_gain_tokens_ci95_high"] == 10.0
    assert row["unsaturated_token_gain_tokens_n"] == 2
    assert row["unsaturated_utilisation_mean"] == 9 / 16
    # (30 + 28) / 2 = 29 nats = 41.838 bits, over 4 coordinates 10.460; slope (22 − 10) / (50 − 40).
    assert row["unsaturated_information_gain_nats_mean"] == 29.0
    assert row["unsaturated_information_gain_bits_mean"] == pytest.approx(41.838, abs=1e-3)
    assert row["unsaturated_bits_per_dimension_mean"] == pytest.approx(10.460, abs=1e-3)
    assert row["threshold_nats"] == 29.0
    assert (row["slope"], row["slope_n"]) == (pytest.approx(1.2), 2)
    assert math.isnan(row["slope_ci95_low"])
    # (0.5 + 0.5 + 0.5 + 1.5) / 4.
    assert row["first_nats_mean"] == 0.75
    # Texts of different lengths asked for: their horizons are not one measure.
    assert math.isnan(row["horizon_tokens_mean"])
    assert row["horizon_tokens_n"] == 0


def test_cells_by_hand(table):
    short, long = summarise_cells(table).to_dict("records")
    assert (short["length"], long["length"]) == (8, 16)
    assert (short["n"], short["unsaturated"], long["unsaturated"]) == (2, 0, 2)
    assert short["token_gain_tokens_mean"] == 4.5
    assert math.isnan(short["unsaturated_token_gain_tokens_mean"])
    assert short["unsaturated_token_gain_tokens_n"] == 0
    assert long["accuracy_mean"] == 29 / 32
    # Horizons 8 (the text ended) and 5.
    assert (short["horizon_tokens_mean"], short["horizon_censored_share"]) == (6.5, 0.5)
    assert (short["horizon_restricted_tokens"], short["horizon_limit_tokens"]) == (6.5, 8)
    # 20 and 24 nats over 40 bytes: 22 / ln 2 / 40.
    assert short["lm_bits_per_byte_mean"] == pytest.approx(22 / math.log(2) / 40)


def test_the_order_of_rows_does_not_matter(table):
    shuffled = summarise_series(table.iloc[[2, 0, 3, 1]])
    pd.testing.assert_frame_equal(
        shuffled.filter(regex="^(?!.*ci95)"), summarise_series(table).filter(regex="^(?!.*ci95)")
    )


def test_a_table_read_from_csv_gives_the_same(table):
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        summarise_series(again), summarise_series(table), check_dtype=False
    )


def test_bits_are_nats_over_ln2_in_every_column(table):
    row = summarise_series(table).iloc[0]
    for end in ("mean", "std", "ci95_low", "ci95_high"):
        assert row[f"information_gain_bits_{end}"] == pytest.approx(
            row[f"information_gain_nats_{end}"] / math.log(2)
        )


def test_series_are_kept_apart():
    others = [
        {"vectors": 2},
        {"source": "random"},
        {"condition": "layers=3"},
        {"model": "m2"},
        {"recipe": "kuratov2025"},
        {"kind": "horizon"},
        {"study": "s2"},
    ]
    table = results_table(ROWS + [replace(row, **other) for other in others for row in ROWS])
    found = summarise_series(table)
    assert len(found) == 8
    assert (found["n"] == 4).all()
    doubled = found[found["vectors"] == 2].iloc[0]
    assert doubled["capacity_bound_tokens"] == 32.0
    assert doubled["unsaturated_utilisation_mean"] == 9 / 32
    # 29 nats over 2 · 4 coordinates.
    assert doubled["unsaturated_bits_per_dimension_mean"] == pytest.approx(29 / math.log(2) / 8)


def test_intervals_are_over_passages_not_texts():
    alone = [
        replace(ROWS[2], lm_nats=40.0 + n, mem_nats=10.0 + n * n, text_id=str(n)) for n in range(4)
    ]
    prefixes = [replace(row, text_id=str(n // 2)) for n, row in enumerate(alone)]
    one, other = (summarise_series(results_table(rows)).iloc[0] for rows in (alone, prefixes))
    assert (one["passages"], other["passages"], other["n"]) == (4, 2, 4)
    assert one["slope"] == other["slope"]
    assert one["slope_ci95_low"] < one["slope"] < one["slope_ci95_high"]
    assert math.isnan(other["slope_ci95_low"])
    # None of them exact: z² / (n + z²) with z² = 3.8415, for n = 4 and n = 2.
    assert one["exact_share_ci95_high"] == pytest.approx(3.8415 / 7.8415, abs=1e-4)
    assert other["exact_share_ci95_high"] == pytest.approx(3.8415 / 5.8415, abs=1e-4)


def test_a_horizon_series_has_horizons_and_no_capacity():
    table = results_table([replace(row, kind="horizon") for row in ROWS])
    row = summarise_series(table).iloc[0]
    # 8 (ended), 5, 3, 6: mean 5.5. Tested 8, 6, 4, 7; P(≥ 4) = 3/4, (≥ 6) = 1/2, (≥ 7) = 1/4, to 8:
    # 3 + 2 · 3/4 + 1/2 + 2 · 1/4.
    assert row["horizon_tokens_mean"] == 5.5
    assert row["horizon_restricted_tokens"] == pytest.approx(5.5)
    assert math.isnan(row["decoding_capacity_tokens"])
    assert math.isnan(row["exact_capacity_tokens"])


def test_the_papers_variants():
    # Best accuracy of the run 15/16 → n_counted = 15: 14.0625 right, less 4 of the bare LM; its
    # smallest loss and its H over N tokens: 44 − 9 = 35. Another reached 0.995 and is left out.
    given = replace(
        ROWS[2], recipe="kuratov2025", first_token_given=True, first_nats=None, n_counted=15
    )
    rows = [
        replace(given, paper_accuracy=15 / 16, paper_mem_nats=9.0, paper_lm_nats=44.0),
        replace(given, paper_accuracy=0.995, paper_mem_nats=1.0, paper_lm_nats=44.0),
    ]
    ours, paper = (
        summarise_series(results_table([*ROWS, *rows])).sort_values("recipe").to_dict("records")
    )
    assert paper["paper_accuracy_n"] == 2
    assert paper["paper_token_gain_tokens_mean"] == 15 * 15 / 16 - 4
    assert paper["paper_information_gain_nats_mean"] == paper["paper_threshold_nats"] == 35.0
    assert paper["paper_information_gain_nats_n"] == paper["paper_slope_n"] == 1
    assert paper["unsaturated"] == 2
    assert paper["first_nats_n"] == 0
    assert math.isnan(paper["paper_decoding_capacity_tokens"])
    assert paper["paper_decoding_capacity_next_tokens"] == 16
    assert ours["paper_accuracy_n"] == ours["paper_slope_n"] == 0
    assert math.isnan(ours["paper_token_gain_tokens_mean"])


def test_random_texts_by_their_own_length():
    rows = [
        replace(BASE, source="random", length=64, tokens=n, text_id=str(n)) for n in (5, 9, 9, 30)
    ]
    table = results_table(rows)
    named = frozenset({"random"})
    assert summarise_cells(table)["length"].tolist() == [64]
    assert summarise_cells(table, LengthGroups(named))["length"].tolist() == [5, 9, 30]
    binned = summarise_cells(table, LengthGroups(named, (8, 16)))
    assert binned[["length", "n"]].to_numpy().tolist() == [[0, 1], [8, 2], [16, 1]]


def test_measures_are_one_row_a_text(table):
    found = measures(table)
    assert len(found) == len(table)
    assert found["saturated"].tolist() == [True, True, False, False]
    assert set(GAINS) <= set(found.columns)


def test_a_foreign_table_is_refused(table):
    with pytest.raises(UsageError, match="'accuracy'"):
        summarise_cells(table.drop(columns="accuracy"))
    with pytest.raises(UsageError, match="got 0 rows"):
        summarise_series(results_table([]))


def test_a_left_context_has_a_gain_but_no_share_of_a_bound():
    behind = replace(BASE, kind="context", condition="context=64", vectors=0, outcome="")
    [found] = measures(results_table([behind])).to_dict("records")
    assert found["information_gain_nats"] == behind.lm_nats - behind.mem_nats
    assert math.isnan(found["utilisation"])
    assert math.isnan(found["bits_per_dimension"])
    [series] = summarise_series(results_table([behind])).to_dict("records")
    assert series["capacity_bound_tokens"] == 0
    assert math.isnan(series["utilisation_mean"])


def test_a_model_cut_short_has_horizons_like_any():
    rows = [replace(BASE, task=str(n), kind="depth", tokens=n, horizon=n) for n in (3, 5)]
    [series] = summarise_series(results_table(rows)).to_dict("records")
    assert series["horizon_tokens_mean"] == 4
