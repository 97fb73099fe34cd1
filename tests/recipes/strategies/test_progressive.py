"""Progressive cramming: stages, budgets, and the last n that was correct."""

import dataclasses

import pytest

import memcram
from memcram import CramRequest, Engine
from memcram.recipes.strategies import Continue, Outcome, Retarget, Stop
from memcram.recipes.strategies.base import Measurement
from memcram.recipes.strategies.progressive import Progressive

STRATEGY = Progressive(steps=100, stage_steps=30)
USUAL = Measurement(
    step=50,
    n_tokens=8,
    n_held=3,
    max_held=7,
    max_held_step=40,
    min_margin=-1.0,
    loss=1.0,
    text_tokens=20,
    token_steps=400,
)
SPENT = Stop(Outcome.BUDGET_EXHAUSTED)
CASES = {
    "not yet": ({}, Continue()),
    "next stage, from the very same vectors": (
        {"n_held": 8, "max_held": 8},
        Retarget(9, step=False),
    ),
    "the whole text": ({"n_tokens": 20, "n_held": 20}, Stop(Outcome.CORRECT)),
    "last step of the stage": ({"max_held_step": 21}, Continue()),
    "stage spent": ({"max_held_step": 20}, SPENT),
    "text spent": ({"step": 100, "max_held_step": 90}, SPENT),
    "correct at the last moment": ({"step": 100, "n_held": 8}, Retarget(9, step=False)),
}


@pytest.mark.parametrize(("changes", "decision"), CASES.values(), ids=CASES)
def test_decisions(changes, decision):
    assert STRATEGY.decide(dataclasses.replace(USUAL, **changes)) == decision


def test_its_horizon_is_what_its_vectors_decode_to(pocket, prose):
    recipe = memcram.get_recipe("tarasov2026").with_steps(150)
    [one] = Engine(pocket, recipe).run([CramRequest("a", prose[:60])])
    assert 2 < one.n_correct < 60
    assert pocket.generate(one.mem, one.n_correct).tolist() == prose[: one.n_correct].tolist()
    assert one.steps == 150
