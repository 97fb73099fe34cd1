"""The arena's arithmetic and rules, on made-up measurements."""

from dataclasses import replace

import pytest
import torch

from arena import budget, figures, race, rows, store, summary, tables, texts, tuning
from arena.variants import parse_entry, with_override
from memcram.errors import TextError, UsageError
from memcram.recipes.catalogue import RECIPES, get_recipe
from memcram.recipes.objectives.cross_entropy import CrossEntropy
from memcram.recipes.objectives.hinge_margin import HingeMargin
from memcram.recipes.strategies import Continue, Measurement, Outcome, Retarget, Stop
from memcram.recipes.strategies.fixed import Fixed
from memcram.recipes.strategies.horizon import Horizon
from memcram.texts import TextSample

# -- variants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if not r.first_token_given])
def test_a_name_alone_is_the_recipe(name):
    entry = parse_entry(name)
    assert entry.recipe == get_recipe(name)
    assert entry.grows == (get_recipe(name).horizon is not None)


def test_overrides_change_what_they_name_and_nothing_else():
    entry = parse_entry("default@lr=1,tau=0.3,horizon.patience=7,betas=[0.5,0.99]")
    default = get_recipe("default")
    expected = replace(
        default,
        name=entry.name,
        optimiser=replace(default.optimiser, lr=1.0, betas=(0.5, 0.99)),
        objective=replace(default.objective, tau=0.3),
        horizon=replace(default.horizon, patience=7),
    )
    assert entry.recipe == expected
    assert isinstance(entry.recipe.optimiser.lr, float)


def test_components_by_class_and_as_json():
    assert parse_entry("default@objective=CrossEntropy").recipe.objective == CrossEntropy()
    line = 'default@{"objective": {"kind": "HingeMargin", "tau": 0.7}, "optimiser": {"lr": 0.2}}'
    recipe = parse_entry(line).recipe
    assert recipe.objective == HingeMargin(tau=0.7)
    assert recipe.optimiser == replace(get_recipe("default").optimiser, lr=0.2)
    two = parse_entry("default@objective=HingeMargin,objective.tau=0.7,optimiser.lr=0.2").recipe
    assert (two.objective, two.optimiser) == (recipe.objective, recipe.optimiser)


def test_how_lengths_are_found():
    assert not parse_entry("default@lengths=grid").grows
    assert not parse_entry("default@horizon=null").grows
    assert parse_entry("kuratov2025+t1@horizon=Horizon").grows
    assert parse_entry("default@starts=3").starts == 3
    assert parse_entry("default").starts == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("kuratov2025", "kuratov2025+t1"),
        ("nobody", "default"),
        ("default@", "KEY=VALUE"),
        ("default@lr", "KEY=VALUE"),
        ("default@rate=1", "no setting 'rate'"),
        ("default@margin=1", "strategy.margin, horizon.margin"),
        ("default@lr=fast", "valid number"),
        ("default@objective=Nothing", "allowed: CrossEntropy"),
        ('default@{"objective": {"width": 1}}', "no setting 'width'"),
        ("default@{", "no JSON object"),
        ("default@lengths=all", "'grown', 'grid'"),
        ("default@starts=0", "starts: got 0, allowed: 1 or more"),
        ("default@starts=many", "starts: got 'many'"),
        ("kuratov2025+t1@starts=2", "does not grow"),
        ("kuratov2025+t1@lengths=grown", "keeps no prefix"),
    ],
)
def test_refused_lines(line, says):
    with pytest.raises(UsageError) as caught:
        parse_entry(line)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["default", "default@tau=0.3", 'default@{"tau": 0.3}'])
def test_one_override_more_comes_last(line):
    more = parse_entry(with_override(line, "optimiser.lr", 0.01)).recipe
    assert more.optimiser.lr == 0.01
    assert more.objective == parse_entry(line).recipe.objective


# -- texts, budget, grid ------------------------------------------------------------------------


def test_books_for_choosing_are_none_of_the_reported():
    names = [f"{author}_{i}" for author in "ab" for i in range(3)]
    halves = texts.split_books(names[::-1])
    assert sorted(halves["choosing"] + halves["reporting"]) == names
    assert {name[0] for name in halves["choosing"]} == {name[0] for name in halves["reporting"]}
    assert halves == texts.split_books(names)
    with pytest.raises(TextError):
        texts.split_books(["a"])


@pytest.mark.parametrize(("vectors", "prefix", "n"), [(1, 0, 1), (1, 0, 16), (4, 1, 30)])
def test_steps_pay_for_whole_positions(vectors, prefix, n):
    positions = vectors + prefix + n - 1
    assert budget.steps_within(10 * positions, vectors, prefix, n) == 10
    assert budget.steps_within(10 * positions - 1, vectors, prefix, n) == 9
    assert budget.steps_within(1, vectors, prefix, n) == 1


def measured(**changes):
    values = {
        "step": 5,
        "n_tokens": 8,
        "n_held": 3,
        "most_held": 3,
        "most_held_step": 5,
        "min_margin": -1.0,
        "loss": 1.0,
        "text_tokens": 20,
        "token_steps": 0,
    }
    return Measurement(**values | changes)


@pytest.mark.parametrize("inner", [Horizon(), Fixed()])
def test_budgeted_decides_as_its_strategy_until_the_budget(inner):
    under = budget.Budgeted(inner, 100)
    assert under.decide(measured(token_steps=99)) == inner.decide(measured()) == Continue()
    assert under.decide(measured(token_steps=100)) == Stop(Outcome.BUDGET_EXHAUSTED)
    done = measured(n_held=20, most_held=20, n_tokens=20, min_margin=1.0, token_steps=100)
    assert under.decide(done) == Stop(Outcome.RIGHT)
    grown = measured(n_held=8, most_held=8, min_margin=1.0, token_steps=99)
    assert isinstance(under.decide(grown), Retarget | Stop)
    for name in ("keeps_prefix", "held_margin", "lookahead"):
        assert getattr(under, name) == getattr(inner, name)


def test_grid_rises_and_ends():
    assert budget.grid_up_to(33) == [4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32]
    assert budget.grid_up_to(9, (3, 9, 10)) == [3, 9]
    assert budget.parse_grid("4,6") == (4, 6)
    for text in ("6,4", "4,4", "0,4", "four"):
        with pytest.raises(UsageError, match="--grid"):
            budget.parse_grid(text)
    assert not budget.is_over([0])
    assert not budget.is_over([0, 1, 0])
    assert budget.is_over([3, 0, 0])


# -- rows and summaries -------------------------------------------------------------------------


def sample(i=0):
    return TextSample("book", i, torch.arange(40), f"text {i}")


def attempt(length, exact, **changes):
    values = {
        "length": length,
        "exact": exact,
        "min_margin": 0.5 if exact else None,
        "steps": 10,
        "token_steps": 100,
        "history": ((float(length), exact),) if exact else (),
        "outcome": "right",
    }
    return rows.Attempt(**values | changes)


def test_horizon_of_the_grid_is_the_longest_exact_length():
    row = rows.grid_row(sample(), [attempt(4, 4), attempt(6, 3), attempt(8, 8), attempt(12, 9)])
    assert (row.horizon, row.at_most, row.censored) == (8, 11, False)
    assert row.to_exact == 8.0
    assert row.token_steps == 400
    assert row.history == ((4.0, 4), (8.0, 8))


def test_horizon_of_the_grid_at_its_ends():
    nothing = rows.grid_row(sample(), [attempt(4, 3), attempt(6, 0)])
    assert (nothing.horizon, nothing.at_most, nothing.to_exact) == (0, 3, None)
    everything = rows.grid_row(sample(), [attempt(4, 4), attempt(6, 6)])
    assert everything.censored
    assert (everything.horizon, everything.at_most) == (6, 6)


def test_of_several_starts_the_one_that_holds_most_counts_and_all_are_paid_for():
    runs = [
        attempt(96, 6, history=((30.0, 4), (80.0, 6))),
        attempt(96, 9, history=((20.0, 5), (60.0, 9)), min_margin=0.1),
        attempt(96, 7),
    ]
    row = rows.grown_row(sample(), runs)
    assert (row.horizon, row.at_most, row.min_margin, row.token_steps) == (9, 9, 0.1, 300)
    assert row.history == ((30.0, 4), (80.0, 6), (160.0, 9))
    assert row.to_exact == 160.0
    assert len(row.attempts) == 3


def test_rises_never_fall_and_never_pass_what_was_confirmed():
    points = [(0, 0), (5, 3), (6, 2), (7, 9), (8, 12)]
    assert rows.rises(points, 10) == ((5, 3), (7, 9), (8, 10))


def bout(horizons, *, name="one", vectors=1, at_most=None, lengths="grown"):
    at_most = at_most or horizons
    return {
        "role": "reporting",
        "digest": name,
        "recipe": name,
        "vectors": vectors,
        "lengths": lengths,
        "seconds": 10.0,
        "token_steps": 1000,
        "rows": [
            {
                "id": str(i),
                "horizon": h,
                "at_most": m,
                "censored": False,
                "min_margin": 0.1 * (i + 1) if h else None,
                "to_exact": 50.0 if h else None,
                "history": [[10.0, 1], [50.0, h]] if h else [],
                "attempts": [{"length": 4, "exact": min(h, 4)}, {"length": 8, "exact": min(h, 8)}],
            }
            for i, (h, m) in enumerate(zip(horizons, at_most, strict=True))
        ],
    }


def test_ratio_is_paired():
    """Three times as much on every text: no spread, however different the texts are."""
    small = [1, 5, 20, 9, 0]
    found = summary.ratio(bout([3 * h for h in small]), bout(small, name="two"))
    assert found["ratio"] == pytest.approx(3)
    assert found["ci95"] == pytest.approx([3, 3])


def test_ratio_has_the_spread_of_its_texts_and_knows_what_the_grid_leaves_open():
    over = bout([20, 22, 24, 30])
    under = bout([8, 12, 10, 10], name="two", at_most=[9, 15, 11, 13], lengths="grid")
    [found] = summary.ratios([over, under, bout([1, 1, 1, 1], name="three", vectors=4)])
    assert found["ratio"] == pytest.approx(96 / 40)
    assert found["at_least"] == pytest.approx(96 / 48)
    assert found["ci95"][0] < found["ratio"] < found["ci95"][1]


def test_ratio_to_nothing_is_none_and_other_texts_are_refused():
    found = summary.ratio(bout([3, 4]), bout([0, 0], name="two"))
    assert found["ratio"] is None
    assert found["ci95"] is None
    with pytest.raises(ValueError, match="different texts"):
        summary.ratio(bout([3, 4]), bout([3], name="two"))


def test_summary_of_a_bout():
    found = summary.summarise(bout([8, 4, 0, 4]), [4, 8, 12])
    assert found["horizon"] == 4
    assert found["share_exact"] == {"4": 0.75, "8": 0.25, "12": 0.0}
    assert found["smallest_margin"] == pytest.approx(0.1)
    # 50 token-steps at 1,000 token-steps in 10 s.
    assert found["token_steps_to_exact"] == 50
    assert found["seconds_to_exact"] == pytest.approx(0.5)
    grid = summary.summarise(bout([8, 4, 0, 4], lengths="grid"), [4, 8, 12])
    assert grid["share_exact"] == {"4": 0.75, "8": 0.25, "12": None}
    censored = summary.summarise(bout([40]), [4]) | {"censored": 1}
    assert "1 of 1 texts ended before" in tables.summary_table([censored])
    assert "ended before" not in tables.summary_table([found, grid])


def test_a_baseline_near_zero_is_a_fault():
    assert summary.faults([bout([8, 9])]) == []
    [sentence] = summary.faults([bout([0, 1], name="two")])
    assert "two" in sentence
    assert "fault of the arena" in sentence


def test_the_best_rate_holds_most_then_costs_least():
    cheap = bout([8, 9]) | {"token_steps": 10}
    assert summary.best_rate([(0.1, bout([8, 8])), (0.3, bout([8, 9])), (1.0, cheap)]) == 1.0


def test_tuning_adds_the_best_rate_behind_what_was_published():
    entries = [parse_entry("default"), parse_entry("tarasov2026")]

    def measure(entry):
        return bout([8 if entry.recipe.optimiser.lr == 0.3 else 4])

    [found] = tuning.tune(entries, (0.1, 0.3, 1.0), measure)
    assert found["best"] == 0.3
    names = [entry.name for entry in tuning.with_best_rates(entries, [found])]
    assert names == ["default", "tarasov2026", "tarasov2026@optimiser.lr=0.3"]
    assert tuning.with_best_rates(entries, [found | {"best": 0.1}]) == entries


def test_horizon_along_token_steps():
    assert figures.horizon_along(bout([8, 0]), [5, 10, 49, 50, 99]) == [0, 0.5, 0.5, 4, 4]


# -- race ---------------------------------------------------------------------------------------


def test_race_reads_failures():
    def laps(*seconds_exact):
        return [race.Lap(seconds, exact, 0) for seconds, exact in seconds_exact]

    ours = laps((1.0, 4), (2.0, 4))
    clean = race.compare("b", laps((10.0, 4), (30.0, 4)), "a", ours, 4)
    assert clean["ratio"] == pytest.approx(12.5)
    assert (clean["low"], clean["high"], clean["n"]) == (10, 15, 2)
    assert "every text exact" in clean["reading"]
    assert "lower bound" in race.compare("b", laps((9.0, 2), (9.0, 4)), "a", ours, 4)["reading"]
    failed = race.compare("b", laps((9.0, 2)), "a", laps((1.0, 3)), 4)
    assert "no bound" in failed["reading"]


def test_race_is_where_half_of_the_texts_are_exact():
    assert race.half_length(bout([8, 8, 4, 4], lengths="grid")) == 8
    assert race.half_length(bout([4, 4, 0, 0], lengths="grid")) == 4


# -- store --------------------------------------------------------------------------------------


def test_store_finds_what_was_measured_and_replaces_what_was_not(tmp_path):
    path = tmp_path / "report.json"
    first = store.Store(path)
    first.put(bout([1]))
    first.put(bout([2], name="two"))
    again = store.Store(path)
    assert again.find("reporting", "one") == bout([1])
    assert again.find("tuning", "one") is None
    again.put(bout([3]) | {"digest": "other"})
    assert again.find("reporting", "one") is None
    assert len(store.Store(path).report["bouts"]) == 2
    path.write_text("[")
    with pytest.raises(UsageError, match="no JSON"):
        store.Store(path)
