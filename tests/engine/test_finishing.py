"""Optimise in bfloat16, finish in float32: what is returned holds in float32."""

import dataclasses

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.engine import compute
from memcram.engine.compute import choose_compute_dtype
from memcram.engine.finishing import Relative, finished, finishing_recipe
from memcram.errors import UsageError
from memcram.models import decoding
from memcram.models.accounting import exact_prefix
from memcram.models.scoring import score
from memcram.recipes.objectives.cross_entropy import CrossEntropy
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.fixed import Fixed

HORIZON = memcram.get_recipe("default").with_steps(60).for_horizon()
FIXED = dataclasses.replace(memcram.get_recipe("default"), strategy=Fixed(steps=150, margin=0.02))


def requests(ids, n, count=4, **options):
    return [CramRequest(i, ids[50 * i :][:n], seed=i, **options) for i in range(count)]


def run(lm, recipe, wanted, **options):
    engine = Engine(lm, recipe, compute_dtype="bfloat16", **options)
    return {one.key: one for one in engine.run(wanted)}


def test_horizons_hold_when_decoded_in_float32(pocket, prose):
    wanted = requests(prose, 40)
    found = run(pocket, HORIZON, wanted)
    decoded = decoding.greedy(pocket, [found[i].mem for i in range(4)], [40] * 4)
    for request, back in zip(wanted, decoded, strict=True):
        one = found[request.key]
        assert one.mem.dtype == torch.float32
        assert 4 < one.n_correct < 40
        assert exact_prefix(back.ids, request.ids) >= one.n_correct
        assert one.margins.min() > HORIZON.strategy.held_margin
        assert len(one.margins) == len(one.learned_step) == one.n_correct
        assert one.outcome is Outcome.BUDGET_EXHAUSTED


def test_margins_are_those_of_float32(pocket, prose):
    wanted = requests(prose, 8)
    found = run(pocket, FIXED, wanted)
    assert {one.outcome for one in found.values()} == {Outcome.CORRECT}
    mems = [found[request.key].mem for request in wanted]
    for request, scored in zip(
        wanted, score(pocket, [one.ids for one in wanted], mems), strict=True
    ):
        torch.testing.assert_close(found[request.key].margins, scored.margins, rtol=1e-3, atol=1e-3)
        assert scored.margins.min() > 0.02


def test_both_phases_count(pocket, prose):
    [request] = requests(prose, 8, count=1)
    recipe = FIXED.with_steps(3)
    [one] = run(pocket, recipe, [request]).values()
    low_precision = Engine(pocket, recipe, compute_dtype="bfloat16")
    low_precision._finisher = None
    [low] = low_precision.run([request])
    [high] = Engine(pocket, finishing_recipe(recipe)).run(
        [dataclasses.replace(request, start=low.mem)]
    )
    assert low.steps == 3
    assert high.steps > 0
    assert one.steps == low.steps + high.steps
    assert one.token_steps == low.token_steps + high.token_steps
    assert one.best_step == low.steps + high.best_step
    assert torch.equal(one.mem, high.mem)
    assert one.n_correct == high.n_correct
    assert one.key == request.key


def test_a_prefix_that_is_lost_in_float32_does_not_count(pocket, prose, monkeypatch):
    [request] = requests(prose, 40, count=1)
    engine = Engine(pocket, HORIZON, compute_dtype="bfloat16")
    # Vectors of another text: few tokens of this one are correct, and no step repairs that.
    broken = finishing_recipe(HORIZON)
    broken = dataclasses.replace(broken, optimiser=dataclasses.replace(broken.optimiser, lr=1e-12))
    finisher = Engine(pocket, broken)
    noise = torch.randn(1, pocket.input_width, generator=torch.Generator().manual_seed(0))
    crammed = finisher.run
    monkeypatch.setattr(
        finisher,
        "run",
        lambda texts: crammed([dataclasses.replace(one, start=noise) for one in texts]),
    )
    engine._finisher = finisher
    [one] = engine.run([request])
    [decoded] = decoding.greedy(pocket, [one.mem], [40])
    assert one.n_correct == exact_prefix(decoded.ids, request.ids) < 4


def test_batch_mates_change_nothing(pocket, prose):
    wanted = requests(prose, 30)
    together = run(pocket, HORIZON, wanted)
    for request in wanted:
        [alone] = run(pocket, HORIZON, [request]).values()
        assert torch.equal(alone.mem, together[request.key].mem)
        assert alone.steps == together[request.key].steps


def test_follow_ups_see_finished_results(pocket, prose):
    seen = []

    def follow_up(crammed):
        seen.append(crammed)
        if crammed.key == "next":
            return None
        return CramRequest("next", prose[crammed.n_correct :][:20])

    engine = Engine(pocket, HORIZON, compute_dtype="bfloat16")
    results = list(engine.run([CramRequest("first", prose[:20])], follow_up=follow_up))
    assert [one.key for one in results] == ["first", "next"]
    assert seen == results


def test_ctrl_c_while_finishing_loses_no_text(pocket, prose):
    engine = Engine(pocket, FIXED.with_steps(3), compute_dtype="bfloat16")

    def interrupted(texts):
        raise KeyboardInterrupt
        yield

    engine._finisher.run = interrupted
    results = []

    def consume():
        for one in engine.run(requests(prose, 8)):
            results.append(one)

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert {one.key for one in results} == {0, 1, 2, 3}
    assert {one.outcome for one in results} == {Outcome.INTERRUPTED}


def test_a_path_ends_at_the_finished_vectors(pocket, prose):
    [request] = requests(prose, 8, count=1, with_path=True)
    [one] = run(pocket, FIXED.with_steps(5), [request]).values()
    assert torch.equal(one.path[-1], one.mem)
    assert one.path_steps[-1] == one.best_step
    assert len(one.path) == len(one.path_steps)


def test_other_objectives_are_finished_too(pocket, prose):
    recipe = dataclasses.replace(FIXED, objective=CrossEntropy())
    found = run(pocket, recipe, requests(prose, 6))
    assert {one.outcome for one in found.values()} == {Outcome.CORRECT}


def test_in_the_models_dtype_nothing_is_finished(pocket):
    assert Engine(pocket, FIXED, compute_dtype="float32")._finisher is None
    assert Engine(pocket, FIXED)._finisher is None  # small, so `auto` is float32


def test_relative_starts_at_the_start():
    start = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)) * 1000
    parameters = Relative().init(start, 6, torch.Generator())
    torch.testing.assert_close(parameters["unit"].square().mean(-1), torch.ones(2))
    torch.testing.assert_close(Relative().mem(parameters), start)


def test_vectors_of_zeros_stay_finite(pocket, prose):
    recipe = finishing_recipe(FIXED)
    start = torch.zeros(1, pocket.input_width)
    [one] = Engine(pocket, recipe).run([CramRequest("a", prose[:4], start=start)])
    assert one.mem.isfinite().all()


@pytest.mark.parametrize(
    ("parameters", "gain", "expected"),
    [(60_000_000, 2.0, "bfloat16"), (60_000_000, 1.1, "float32"), (6_000_000, 2.0, "float32")],
)
def test_auto_asks_for_a_large_model_and_a_gain(pocket, monkeypatch, parameters, gain, expected):
    monkeypatch.setattr(compute, "_gain", lambda *_: gain)
    monkeypatch.setattr(pocket, "parameters", parameters)
    assert choose_compute_dtype(pocket, "auto") == getattr(torch, expected)


def test_auto_keeps_other_dtypes(tiny_lm64, monkeypatch):
    monkeypatch.setattr(compute, "_gain", lambda *_: 9.0)
    monkeypatch.setattr(tiny_lm64, "parameters", 60_000_000)
    assert choose_compute_dtype(tiny_lm64, "auto") == torch.float64


def test_the_gain_is_measured():
    assert compute._gain(torch.device("cpu"), 64) > 0


@pytest.mark.parametrize("wanted", ["float16", "int8", torch.float64])
def test_other_compute_dtypes_are_refused(pocket, wanted):
    with pytest.raises(UsageError) as caught:
        Engine(pocket, FIXED, compute_dtype=wanted)
    assert caught.value.argument == "compute_dtype"
    assert caught.value.allowed == "auto, float32, bfloat16"


def test_a_copy_shares_nothing_and_is_made_once(tiny_folder):
    lm = memcram.load_lm(str(tiny_folder), device="cpu")
    copy = lm.in_dtype(torch.bfloat16)
    assert lm.in_dtype(torch.bfloat16) is copy
    assert lm.in_dtype(torch.float32) is lm
    assert copy.dtype == copy.prefix.dtype == torch.bfloat16
    assert {one.dtype for one in copy.module.parameters()} == {torch.bfloat16}
    assert {one.dtype for one in lm.module.parameters()} == {torch.float32}
    assert {one.dtype for one in copy.module.buffers()} == {torch.float32}
    ids = torch.arange(9)
    rough, exact = (one.head(one.hidden(one.embed(ids)[None])) for one in (copy, lm))
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.2 * exact.std().item())


@pytest.mark.parametrize("spent", [False, True])
def test_the_steps_of_finishing_spend_no_budget(pocket, prose, spent):
    chosen, [request] = HORIZON.with_steps(40), requests(prose, 40, count=1)
    [found] = Engine(pocket, chosen).run([request])
    low = dataclasses.replace(found, budget_spent=spent)

    def run(wanted):
        [one] = wanted
        yield dataclasses.replace(low, key=one.key, steps=4, budget_spent=not spent)

    [(_, joined)] = finished(run, chosen, [(request, low)])
    assert joined.steps == found.steps + 4
    assert joined.budget_spent == spent


def test_a_run_says_whether_it_spent_its_budget(pocket, prose):
    chosen = memcram.get_recipe("default@horizon.patience=15").for_horizon()
    [by_patience] = Engine(pocket, chosen).run(requests(prose, 40, count=1))
    [by_budget] = Engine(pocket, chosen.with_steps(9)).run(requests(prose, 40, count=1))
    assert (by_patience.budget_spent, by_budget.budget_spent) == (False, True)
