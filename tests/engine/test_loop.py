"""How a run ends: correct, out of budget, interrupted, out of memory, not finite."""

import dataclasses
import itertools
import weakref

import pytest
import torch

import memcram
from memcram import CramRequest, Engine, ModelError, UsageError
from memcram.engine import loop
from memcram.engine.batch import Batch
from memcram.recipes.objectives.smooth_margin import SmoothMargin
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.fixed import Fixed


def recipe(steps=12, lr=1.0, **strategy):
    default = memcram.get_recipe("direct")
    return dataclasses.replace(
        default,
        optimiser=dataclasses.replace(default.optimiser, lr=lr),
        strategy=Fixed(steps=steps, **strategy),
    )


def texts(ids, lengths=(20, 14, 9, 30)):
    cuts = [0, *itertools.accumulate(lengths)]
    return [CramRequest(n, ids[at : at + n], seed=n) for n, at in zip(lengths, cuts, strict=False)]


def by_key(results):
    return {one.key: one for one in results}


def test_outcome_correct_and_its_margin(pocket, prose):
    [one] = Engine(pocket, recipe(steps=400, margin=0.5)).run([CramRequest("a", prose[:6])])
    assert one.outcome is Outcome.CORRECT
    assert one.n_correct == 6 == len(one.margins)
    assert one.margins.min() > 0.5
    assert one.steps < 400
    assert one.best_step == one.steps
    assert one.mem.shape == (1, pocket.input_width)
    assert one.token_steps == 6 * (
        one.steps + 1
    )  # K + n − 1 positions, one more measurement than steps


@pytest.mark.parametrize("name", ["default", "tarasov2026"])
def test_rises_record_when_each_token_was_first_held(pocket, prose, name):
    chosen = memcram.get_recipe(name).for_horizon().with_steps(200)
    [one] = Engine(pocket, chosen, poll_every=1).run([CramRequest("a", prose[:20])])
    assert len(one.rises) > 1
    assert (one.rises.diff(dim=0)[:, 1:] > 0).all()  # a stage may begin without a step
    assert (one.rises.diff(dim=0)[:, 0] >= 0).all()
    step, spent, held = one.rises[-1].tolist()
    assert held == one.n_correct
    assert step <= one.best_step <= one.steps
    assert spent <= one.token_steps


def test_rises_at_a_fixed_length_cost_the_same_each_step(pocket, prose):
    [one] = Engine(pocket, recipe(steps=30)).run([CramRequest("a", prose[:6])])
    assert one.rises[:, 1].tolist() == [6 * (step + 1) for step in one.rises[:, 0].tolist()]
    assert one.rises[-1, 2] == one.n_correct


def test_outcome_budget_exhausted_spends_exactly_the_budget(pocket, prose):
    [one] = Engine(pocket, recipe(steps=5)).run([CramRequest("a", prose[:60])])
    assert one.outcome is Outcome.BUDGET_EXHAUSTED
    assert one.steps == 5
    assert one.n_correct < 60


def test_patience_stops_what_no_longer_improves(pocket, prose):
    [one] = Engine(pocket, recipe(steps=500, lr=1e-300, patience=7)).run(
        [CramRequest("a", prose[:30])]
    )
    assert one.outcome is Outcome.BUDGET_EXHAUSTED
    assert one.steps == 7


def test_the_best_is_kept_not_the_last(pocket, prose):
    request = CramRequest("a", prose[:30])
    scores = [
        (one.n_correct, one.margins.min().item())
        for steps in range(1, 16)
        for one in Engine(pocket, recipe(steps=steps)).run([request])
    ]
    assert scores == sorted(scores)
    assert len(set(scores)) < len(scores)  # some step was worse than one before it


@pytest.mark.parametrize("start", [float("nan"), float("inf")])
def test_initial_vectors_that_are_not_finite(pocket, prose, start):
    bad = torch.full((1, pocket.input_width), start)
    good, wrong = texts(prose)[:2]
    found = by_key(Engine(pocket, recipe()).run([good, dataclasses.replace(wrong, start=bad)]))
    assert found[wrong.key].outcome is Outcome.NON_FINITE
    assert found[wrong.key].n_correct == 0
    [alone] = Engine(pocket, recipe()).run([good])
    assert torch.equal(found[good.key].mem, alone.mem)


def test_an_absurd_learning_rate_keeps_the_last_finite_vectors(pocket, prose):
    [one] = Engine(pocket, recipe(lr=1e300)).run([CramRequest("a", prose[:9])])
    assert one.outcome is Outcome.NON_FINITE
    assert one.mem.isfinite().all()
    assert one.best_step == 0
    assert one.min_loss == one.curve[0, 2]


class InterruptAt:
    def __init__(self, turn):
        self.turn = turn

    def __call__(self, status):
        if status.steps == self.turn:
            raise KeyboardInterrupt


def collect_until_interrupted(engine, requests, turn):
    results = []

    def consume():
        for one in engine.run(requests, InterruptAt(turn)):
            results.append(one)

    with pytest.raises(KeyboardInterrupt):
        consume()
    return results


def test_interruption_yields_the_best_so_far(pocket, prose):
    requests = texts(prose)
    results = collect_until_interrupted(Engine(pocket, recipe(steps=50)), requests, turn=8)
    assert {one.key for one in results} == {request.key for request in requests}
    # The turn that was interrupted had measured after 7 steps and then taken its 8th.
    expected = by_key(Engine(pocket, recipe(steps=7)).run(requests))
    for one in results:
        assert one.outcome is Outcome.INTERRUPTED
        assert one.steps == 8
        assert torch.equal(one.mem, expected[one.key].mem)
        assert torch.equal(one.margins, expected[one.key].margins)


def test_a_text_that_ends_in_the_interrupted_turn_is_not_lost(pocket, prose):
    requests = texts(prose)
    results = collect_until_interrupted(Engine(pocket, recipe(steps=4)), requests, turn=5)
    assert {one.key for one in results} == {request.key for request in requests}


def test_out_of_memory_halves_the_batch_and_changes_nothing(pocket, prose, monkeypatch):
    requests = texts(prose)
    calm = by_key(Engine(pocket, recipe()).run(requests))
    sizes = []
    hidden = type(pocket).hidden

    def crowded(self, embeds):
        sizes.append(len(embeds))
        if len(embeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return hidden(self, embeds)

    monkeypatch.setattr(type(pocket), "hidden", crowded)
    tight = by_key(Engine(pocket, recipe()).run(requests))
    assert max(sizes) == 4
    assert sizes.count(4) == 1
    assert sizes[1] == 2
    for key, one in calm.items():
        assert torch.equal(one.mem, tight[key].mem)
        assert one.outcome == tight[key].outcome


def test_memory_is_free_before_the_batch_is_halved(pocket, prose, monkeypatch):
    hidden, halve = type(pocket).hidden, Batch.halve
    held, left = [], []

    def crowded(self, embeds):
        states = hidden(self, embeds)
        if len(embeds) > 2:
            held.append(weakref.ref(states))
            raise torch.OutOfMemoryError("out of memory")
        return states

    def counted(self):
        left.append(sum(one() is not None for one in held))
        return halve(self)

    monkeypatch.setattr(type(pocket), "hidden", crowded)
    monkeypatch.setattr(Batch, "halve", counted)
    list(Engine(pocket, recipe(steps=2)).run(texts(prose)))
    assert (len(held), left) == (1, [0])


def test_interruption_yields_texts_that_were_put_back_for_lack_of_memory(
    pocket, prose, monkeypatch
):
    requests = texts(prose)
    turn = Engine._turn

    def crowded(self, batch, *, poll):
        if batch.slots[0].step == 5 and len(batch.slots) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return turn(self, batch, poll=poll)

    monkeypatch.setattr(Engine, "_turn", crowded)
    results = collect_until_interrupted(Engine(pocket, recipe()), requests, turn=8)
    assert sorted(one.steps for one in results) == [5, 5, 8, 8]


def test_a_turn_that_ran_out_of_memory_at_its_step_counts_once(pocket, prose, monkeypatch):
    requests = texts(prose)
    calm = by_key(Engine(pocket, recipe()).run(requests))
    step, failures = Engine._step, []

    def crowded(self, batch, *rest):
        if len(batch.slots) > 2:
            failures.append(len(batch.slots))
            raise torch.OutOfMemoryError("out of memory")
        step(self, batch, *rest)

    monkeypatch.setattr(Engine, "_step", crowded)
    tight = by_key(Engine(pocket, recipe()).run(requests))
    assert failures == [4]
    for key, one in calm.items():
        assert torch.equal(one.mem, tight[key].mem)
        assert one.token_steps == tight[key].token_steps


def test_no_memory_even_for_one_text(pocket, prose, monkeypatch):
    def full(self, embeds):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(type(pocket), "hidden", full)
    with pytest.raises(ModelError, match="single text"):
        list(Engine(pocket, recipe()).run(texts(prose)))


def test_another_runtime_error_is_not_taken_for_memory(pocket, prose, monkeypatch):
    def broken(self, embeds):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(type(pocket), "hidden", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(Engine(pocket, recipe()).run(texts(prose)))


@pytest.mark.parametrize(
    ("tokens", "vectors", "message"),
    [(129, 1, "129 tokens and 1 vectors exceed.*128 positions.*128 tokens"), (101, 29, "exceed")],
)
def test_more_than_the_positions_is_refused(tiny_lm, tokens, vectors, message):
    request = CramRequest("a", torch.zeros(tokens, dtype=torch.long), vectors)
    with pytest.raises(UsageError, match=message):
        list(Engine(tiny_lm, recipe()).run([request]))
    fits = CramRequest("a", torch.zeros(tokens - 1, dtype=torch.long), vectors)
    assert len(list(Engine(tiny_lm, recipe(steps=1)).run([fits]))) == 1


def test_no_vectors_and_no_tokens_are_refused(tiny_lm):
    ids = torch.zeros(3, dtype=torch.long)
    with pytest.raises(UsageError, match="vectors: got 0"):
        list(Engine(tiny_lm, recipe()).run([CramRequest("a", ids, vectors=0)]))
    with pytest.raises(UsageError, match="0 tokens"):
        list(Engine(tiny_lm, recipe()).run([CramRequest("a", ids[:0])]))


def test_polling_rarely_finds_the_same_best(pocket, prose):
    """The device keeps the best on its own; the host only decides when to stop."""
    requests = texts(prose)
    often = by_key(Engine(pocket, recipe(steps=12), poll_every=1).run(requests))
    rarely = by_key(Engine(pocket, recipe(steps=12), poll_every=6).run(requests))
    for key, one in often.items():
        assert rarely[key].steps == 12
        assert torch.equal(one.mem, rarely[key].mem)


def test_the_seed_decides_the_initial_vectors(pocket, prose):
    run = Engine(pocket, recipe(steps=3))
    [first], [again] = (list(run.run([CramRequest("a", prose[:9], seed=5)])) for _ in range(2))
    [other] = run.run([CramRequest("a", prose[:9], seed=6)])
    assert torch.equal(first.mem, again.mem)
    assert not torch.equal(first.mem, other.mem)


def test_status_counts_every_text(pocket, prose):
    seen = []
    list(Engine(pocket, recipe(steps=2), batch_tokens=32).run(texts(prose), seen.append))
    assert all(s.done + s.active + s.waiting == 4 for s in seen)
    assert seen[-1].done == 4
    assert max(s.waiting for s in seen) > 0


def test_a_full_batch_does_not_look_at_the_waiting_texts(pocket, prose, monkeypatch):
    looks = []
    units = loop.units
    monkeypatch.setattr(loop, "units", lambda slots: looks.append(len(slots)) or units(slots))
    requests = [CramRequest(i, prose[i : i + 16], seed=i) for i in range(6)]
    engine = Engine(pocket, recipe(steps=5, margin=100.0), batch_tokens=32)
    assert {one.steps for one in engine.run(requests)} == {5}
    assert looks == [6, 4, 2]  # two at a time, each for six turns


def test_smooth_margin_is_the_default():
    assert memcram.get_recipe("default").objective == SmoothMargin(tau=0.1)
