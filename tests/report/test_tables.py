"""Tables of a report against small fixed tables."""

import math

import pandas as pd
import pytest

import plausible
from memcram.errors import UsageError
from memcram.report import data, horizons, html, tables
from memcram.study.results import column_types


def fixed_rows():
    """Two lengths of four texts; half of the longer ones are missed by one token in four."""
    rows, _ = plausible.study(samples=4, vectors=(1,), models=("pocket",))
    rows = rows[(rows["kind"] == "capacity") & (rows["source"] == "books")]
    rows = rows[rows["length"].isin([8, 16])].reset_index(drop=True)
    long = rows["length"] == 16
    return rows.assign(
        accuracy=[0.75 if is_long and i % 2 else 1.0 for i, is_long in enumerate(long)],
        exact=[not is_long for is_long in long],
        mem_right=[12 if is_long else 7 for is_long in long],
        lm_right=[2 if is_long else 1 for is_long in long],
        mem_nats=[20.0 if is_long else 0.0 for is_long in long],
        lm_nats=[60.0 if is_long else 25.0 for is_long in long],
    )


def test_table_1_by_hand():
    table = tables.table_1(data.with_label(fixed_rows()))
    assert len(table) == 1
    row = table.iloc[0]
    # 8 tokens: accuracy 1; 16 tokens: mean (1 + 0.75) / 2, below 0.99.
    assert (row["max_tokens"], row["next_tokens"], row["exact_tokens"]) == (8, 16, 8)
    # Gains are over the two texts that are not saturated: 12 − 2 tokens, 60 − 20 nats.
    assert (row["n"], row["gain_n"]) == (8, 2)
    assert row["token_gain"] == 10
    assert row["information_gain_nats"] == 40
    assert row["information_gain_bits"] == pytest.approx(40 / math.log(2))
    # The bound of one vector of width 256 over 4,096 tokens: 256 · 16 / 12.
    assert row["utilisation"] == pytest.approx(10 / (256 * 16 / 12))


def test_a_study_of_horizons_alone_has_no_table_1():
    rows = data.with_label(fixed_rows().assign(kind="horizon"))
    assert len(tables.table_1(rows)) == 0
    assert len(tables.with_published(tables.table_1(rows), tables.published_table())) == len(
        tables.published_table()
    )
    found = horizons.horizon_table(rows)
    assert found["horizon_tokens"].tolist() == [rows["horizon"].mean()]


def test_published_values_stand_in_the_block_of_their_model():
    rows = fixed_rows().assign(model="EleutherAI/pythia-160m")
    own = tables.table_1(data.with_label(rows))
    table = tables.with_published(own, tables.published_table())
    block = table[table["label"] == "pythia-160m"]
    printed = block[block["published"].astype(bool) & (block["source"] == "books")]
    # Table 1 of kuratov2025: Pythia-160M on PG-19, and 2,016 tokens in 32 vectors.
    assert printed["max_tokens"].tolist() == [80, 2016]
    assert "Pythia-160M" not in set(table["label"])


def test_recipes_are_kept_apart():
    rows = fixed_rows()
    both = pd.concat([rows, rows.assign(recipe="kuratov2025", task=rows["task"] + "k")])
    table = tables.table_1(data.with_label(both.reset_index(drop=True)))
    assert sorted(table["label"]) == ["pocket · default", "pocket · kuratov2025"]


def test_one_recipe_goes_without_saying_and_other_settings_do_not():
    rows = fixed_rows()
    assert set(data.with_label(rows)["label"]) == {"pocket"}
    layouts = rows.assign(layout=["mem", "mem+bos"] * (len(rows) // 2))
    assert set(data.with_label(layouts)["label"]) == {"pocket · mem", "pocket · mem+bos"}


def part(name, rows, recipes=None):
    """A study that recorded these settings of its recipes, if any."""
    found = zip(rows["task"], rows["recipe"], strict=True)
    by_task = {task: recipes[recipe] for task, recipe in found if recipes and recipe in recipes}
    return data.StudyPart(name, rows, planned=len(rows), recipes=by_task)


def combined(*parts):
    return data.combine(parts, lambda task: None, lambda model, ids: [])


def test_several_stores_combine_and_a_task_counts_once():
    rows = fixed_rows()
    other = rows.assign(task=rows["task"] + "x", study="other")
    settings = {"default": {"steps": 300}}
    found = combined(*(part(*one, settings) for one in (("1", rows), ("2", rows), ("3", other))))
    assert len(found.rows) == 2 * len(rows)
    assert set(found.rows["label"]) == {"pocket"}


HORIZON = {"kind": "Horizon", "steps": 200}
BUDGETS = {
    "steps": ({"strategy": HORIZON}, [False, True, True, False]),
    "token-steps": (
        {"strategy": {"kind": "TokenBudget", "strategy": HORIZON, "token_steps": 900}},
        [False, True, True, True],
    ),
    "not recorded": ({}, [False, None, None, None]),
}


@pytest.mark.parametrize("name", BUDGETS)
def test_texts_that_the_budget_ended_are_counted(name):
    """The first text is censored; the last took 199 steps and 950 token-steps."""
    settings, expected = BUDGETS[name]
    rows = (
        fixed_rows()
        .iloc[:4]
        .assign(
            kind="horizon",
            censored=[True, False, False, False],
            steps=[200, 200, 240, 199],
            token_steps=[800, 800, 800, 950],
        )
    )
    found = combined(part("one", rows, {"default": settings}))
    assert list(found.rows["budget_ended"]) == expected
    [counted] = horizons.horizon_table(found.rows)["budget_ended"]
    assert counted == sum(expected) if None not in expected else pd.isna(counted)


def test_namesakes_among_recipes_are_told_apart():
    rows = fixed_rows()
    other = rows.assign(task=rows["task"] + "x")
    found = combined(
        part("one", rows, {"default": {"steps": 300}}),
        part("two", other, {"default": {"steps": 30}}),
    )
    assert set(found.rows["recipe"]) == {"default [one]", "default [two]"}
    assert set(found.rows["label"]) == {"pocket · default [one]", "pocket · default [two]"}


def test_settings_that_were_not_recorded_equal_none_of_another_study():
    rows = fixed_rows()
    old, other = rows.assign(task=rows["task"] + "x"), rows.assign(task=rows["task"] + "y")
    found = combined(part("new", rows, {"default": {}}), part("old", old), part("other", other))
    assert set(found.rows["recipe"]) == {"default [new]", "default [old]", "default [other]"}
    assert set(combined(part("old", old)).rows["recipe"]) == {"default"}


def test_a_study_that_went_on_with_other_settings_is_told_apart_by_run():
    rows = fixed_rows()
    tasks = list(rows["task"])
    recipes = {task: {"steps": 30 if i < 3 else 300} for i, task in enumerate(tasks) if i > 1}
    runs = dict(zip(tasks, [1, 1, 2, 3, 4, 4, 4, 4], strict=True))
    found = combined(data.StudyPart("one", rows, len(rows), recipes=recipes, runs=runs))
    names = ["default [one, run 1]"] * 2 + ["default [one, run 2]"] + ["default [one, run 3]"] * 5
    assert list(found.rows["recipe"]) == names


def test_a_recipe_may_differ_between_kinds():
    rows = fixed_rows()
    other = rows.assign(task=rows["task"] + "x", kind="horizon")
    found = combined(
        part("one", rows, {"default": {"steps": 300}}),
        part("two", other, {"default": {"steps": 1000}}),
    )
    assert set(found.rows["label"]) == {"pocket"}


def test_an_empty_study_is_an_error_of_one_line():
    empty = pd.DataFrame(columns=list(column_types()))
    with pytest.raises(UsageError, match=r"^stores: no rows in 'nothing'; [^\n]*$"):
        combined(part("nothing", empty))
    assert len(combined(part("nothing", empty), part("some", fixed_rows())).rows) == 8


def test_missing_columns_are_named():
    with pytest.raises(
        UsageError, match=r"^stores: study 'old' lacks the columns lm_nats, mem_right$"
    ):
        combined(part("old", fixed_rows().drop(columns=["lm_nats", "mem_right"])))


@pytest.mark.parametrize(
    ("most", "following", "published", "words"),
    [
        (16.0, 24.0, False, "16 (24)"),
        (64.0, math.nan, False, "≥ 64"),
        (math.nan, 8.0, False, "< 8"),
        (1568.0, math.nan, True, "1,568"),
        (math.nan, math.nan, True, "–"),
    ],
)
def test_a_capacity_says_where_it_ends(most, following, published, words):
    row = {"max_tokens": most, "next_tokens": following, "published": published}
    assert html.capacity_of(row) == words


def test_models_of_one_name_in_different_folders_are_different_models():
    rows = fixed_rows()
    rows = pd.concat(
        [
            rows.assign(model="runs/a/final"),
            rows.assign(model="runs/b/final", width=4096, parameters=7),
        ],
        ignore_index=True,
    )
    table = tables.table_1(data.with_label(rows)).set_index("label")
    assert list(table.loc[["a/final", "b/final"], "width"]) == [256, 4096]
    assert table.loc["b/final", "parameters"] == 7


@pytest.mark.parametrize(
    "names",
    [
        ["pocket"],
        ["org/x", "other/x"],
        ["x", "a/x", "b/a/x"],
        ["final", "final/", "/final"],
        ["a\\x", "a/x", "b\\x"],
        ["/", "a/"],
    ],
)
def test_short_names_tell_all_models_apart(names):
    short = data.short_models(names)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
    assert all(one for one in short.values())
