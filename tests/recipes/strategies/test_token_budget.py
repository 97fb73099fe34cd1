"""A budget in token-steps around each strategy."""

import pytest

from memcram.recipes.catalogue import get_recipe
from memcram.recipes.strategies import Measurement, Outcome, Stop
from memcram.recipes.strategies.fixed import Fixed
from memcram.recipes.strategies.horizon import Horizon
from memcram.recipes.strategies.progressive import Progressive
from memcram.recipes.strategies.token_budget import TokenBudget

STRATEGIES = [Fixed(steps=100), Horizon(steps=100), Progressive(steps=100)]
SPENT = Stop(Outcome.BUDGET_EXHAUSTED)


def measured(**changes):
    usual = {
        "step": 5,
        "n_tokens": 8,
        "n_held": 3,
        "max_held": 3,
        "max_held_step": 5,
        "min_margin": -1.0,
        "loss": 1.0,
        "text_tokens": 20,
        "token_steps": 0,
    }
    return Measurement(**usual | changes)


@pytest.mark.parametrize("inner", STRATEGIES)
def test_decides_as_the_inner_strategy_until_the_budget_is_spent(inner):
    budgeted = TokenBudget(inner, 100)
    for changes in ({}, {"n_held": 8, "max_held": 8, "min_margin": 1.0}, {"step": 100}):
        decision = inner.decide(measured(**changes))
        assert budgeted.decide(measured(**changes, token_steps=99)) == decision
    for name in ("steps", "keeps_prefix", "held_margin", "lookahead"):
        assert getattr(budgeted, name) == getattr(inner, name)
    assert budgeted.first_target(20) == inner.first_target(20)


@pytest.mark.parametrize("inner", STRATEGIES)
def test_stops_at_the_measurement_that_reaches_the_budget(inner):
    budgeted = TokenBudget(inner, 100)
    assert budgeted.decide(measured(token_steps=100)) == SPENT
    assert budgeted.decide(measured(token_steps=140)) == SPENT
    grown = measured(n_held=8, max_held=8, token_steps=100)
    assert budgeted.decide(grown) == SPENT


def test_a_whole_text_is_right_even_if_the_budget_ends_its_polishing():
    whole = measured(n_tokens=20, n_held=20, max_held=20, min_margin=0.01, token_steps=100)
    assert TokenBudget(Fixed(margin=0.5), 100).decide(whole) == Stop(Outcome.CORRECT)


@pytest.mark.parametrize("inner", STRATEGIES)
def test_changes_go_to_the_inner_strategy(inner):
    budgeted = TokenBudget(inner, 100)
    assert budgeted.with_steps(7) == TokenBudget(inner.with_steps(7), 100)
    assert budgeted.with_margin(0.5) == TokenBudget(inner.with_margin(0.5), 100)


def test_a_recipe_with_token_steps_changes_its_strategies_alone():
    plain, budgeted = get_recipe("tarasov2026"), get_recipe("tarasov2026").with_token_steps(500)
    assert budgeted.for_horizon().strategy == TokenBudget(plain.horizon.with_steps(500), 500)
    changed = {k for k, v in budgeted.settings().items() if v != plain.settings()[k]}
    assert changed == {"strategy", "horizon"}
    assert get_recipe("kuratov2025+t1").with_token_steps(500).horizon is None
