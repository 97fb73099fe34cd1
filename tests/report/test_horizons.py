"""The table of horizons: ratios paired by text, and published values next to measured ones."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import plausible
from memcram.report import figure_data, token_figures
from memcram.report.data import results_table, with_label
from memcram.report.horizons import horizon_table, published_horizons, with_published_horizons
from memcram.study.results import ResultRow
from memcram.study.runfile import Progress

SMALL = replace(
    ResultRow(**plausible.study(samples=1, vectors=(1,), models=("pocket",))[0].iloc[0].to_dict()),
    kind="horizon",
    model="SmolLM2-135M-Instruct.Q4_1.gguf",
    parameters=134_515_008,
    width=576,
    vocab_size=49152,
    censored=False,
)


def rows_of(**horizons: list[int]) -> pd.DataFrame:
    """One row per recipe and text; texts are called 0, 1, …"""
    found: list[ResultRow] = []
    for recipe, values in horizons.items():
        for i, tokens in enumerate(values):
            key = {"recipe": recipe, "text_id": str(i), "task": f"{recipe}{i}"}
            found.append(replace(SMALL, horizon=tokens, token_steps=100 * tokens, **key))
    return with_label(results_table(found))


def test_ratios_are_of_the_best_and_paired_by_text():
    table = horizon_table(rows_of(one=[90, 110], two=[45, 55], few=[30])).set_index("name")
    assert set(table["best"]) == {"one"}
    assert table.loc["two", ["ratio", "ratio_low", "ratio_high", "ratio_n"]].tolist() == [
        2,
        2,
        2,
        2,
    ]
    assert table.loc["few", "ratio"] == 3  # over the text that both measured
    assert (table.loc["few", "ratio_n"], table.loc["one", "token_steps"]) == (1, 10_000)
    assert np.isnan(table.loc["one", "ratio"])
    assert np.isnan(table.loc["few", "ratio_low"])  # one text has no interval


def test_rows_with_another_budget_are_not_compared():
    rows = rows_of(long=[90, 110], one=[60, 80], two=[45, 55])
    rows["budget_token_steps"] = rows["recipe"].map({"long": 100, "one": 40, "two": 40})
    table = horizon_table(rows).set_index("name")
    assert table["best"].to_dict() == {"long": "long", "one": "one", "two": "one"}
    assert table.loc["two", "ratio"] == pytest.approx(1.4)
    assert np.isnan(table.loc["long", "ratio"])
    assert np.isnan(table.loc["one", "ratio"])


def test_published_values_of_the_architecture_follow_what_was_measured():
    own = horizon_table(rows_of(one=[100], two=[50]))
    table = with_published_horizons(own, published_horizons())
    block = table[table["group"] == SMALL.model]
    names = ["one", "two", "tarasov2026-repo+low-dim", "tarasov2026-repo"]
    assert block["name"].tolist() == names
    assert block["label"].tolist()[2:] == ["SmolLM2-135M"] * 2
    published = block[block["name"] == "tarasov2026-repo+low-dim"].iloc[0]
    assert published["ratio"] == pytest.approx(100 / 77.7)
    assert np.isnan(published["ratio_low"])
    assert len(table) == len(own) + len(published_horizons())


def test_another_size_is_another_architecture():
    rows = rows_of(one=[100]).assign(parameters=200_000_000)
    table = with_published_horizons(horizon_table(rows), published_horizons())
    assert len(table[table["group"] == SMALL.model]) == 1


def test_growth_is_the_mean_of_what_texts_held():
    rows = rows_of(one=[100, 50])
    horizons = with_published_horizons(horizon_table(rows), published_horizons())
    points = {"one0": [[1, 10], [2_000, 100]], "one1": [[1, 20], [10_000, 50]]}
    data = figure_data.growth_data(
        rows, horizons, lambda row: Progress(np.array(points[row["task"]], float), estimated=False)
    )
    assert data["token_steps"].iloc[-1] == 10_000
    assert data["held"].iloc[[0, -1]].tolist() == [15, 75]
    assert data.loc[data["token_steps"].between(2_000, 9_999), "held"].unique().tolist() == [60]
    axes = token_figures.growth(data).axes[0]
    assert [line.get_label() for line in axes.lines] == [
        "one, n = 2",
        "largest published mean: 77.7 tokens",
    ]
    assert axes.lines[1].get_ydata()[0] == 77.7


def test_growth_without_the_progress_of_every_text_is_left_out():
    rows = rows_of(one=[100, 50])
    horizons = with_published_horizons(horizon_table(rows), published_horizons())
    assert not len(figure_data.growth_data(rows, horizons, lambda _: None))
