"""A text's path has the vectors that were measured; requesting it changes nothing else."""

import dataclasses

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.fixed import Fixed


def horizon(**changes):
    recipe = memcram.get_recipe("direct")
    strategy = dataclasses.replace(recipe.horizon, steps=20, patience=3, **changes)
    return dataclasses.replace(recipe, strategy=strategy)


# Direct and mapped vectors; stages without a step; back-offs to earlier vectors; a group.
RECIPES = {
    "default": memcram.get_recipe("default").with_steps(12),
    "direct": memcram.get_recipe("direct").with_steps(12),
    "progressive": memcram.get_recipe("tarasov2026").with_steps(20),
    "horizon": horizon(),
    "horizon that looks ahead": horizon(lookahead=4),
    "group": memcram.get_recipe("tarasov2026+low-dim@in_group=true,group_size=10").with_steps(12),
}


def asking(ids, shapes=((30, 1), (44, 2), (12, 1)), **changes):
    return [CramRequest(n, ids[n : 2 * n], k, seed=n, with_path=True, **changes) for n, k in shapes]


def run(lm, recipe, requests, engine=Engine, **settings):
    return {one.key: one for one in engine(lm, recipe, **settings).run(requests)}


class Watched(Engine):
    """Records what was fed, by text and step; the later one where a step is measured twice."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.fed, self.measured = None, {}

    def _turn(self, batch, *, poll):
        steps = {slot.request.key: slot.step for slot in batch.slots}
        embeds = batch.embeds
        batch.embeds = lambda mem: self._feed(embeds(mem))
        decisions = super()._turn(batch, poll=poll)
        batch.embeds = embeds
        for row, slot in enumerate(batch.slots):
            key, k = slot.request.key, slot.request.vectors
            self.measured[key, steps[key]] = self.fed[row, :k]
        return decisions

    def _feed(self, embeds):
        self.fed = embeds.detach().clone()
        return embeds


@pytest.mark.parametrize("name", RECIPES)
def test_points_are_the_vectors_that_were_fed_and_the_best_come_last(pocket, prose, name):
    engine = Watched(pocket, RECIPES[name])
    for one in engine.run(asking(prose, group=5 if name == "group" else None)):
        assert one.path.shape == (len(one.path_steps), *one.mem.shape)
        assert torch.equal(one.path[-1], one.mem)
        assert one.path_steps[-1] == one.best_step
        for step, point in zip(one.path_steps.tolist()[:-1], one.path, strict=False):
            assert torch.equal(point, engine.measured[one.key, step]), (one.key, step)
        # So few steps are all there, the best one last.
        every = [step for step in range(one.steps) if step != one.best_step]
        assert [step for step in one.path_steps.tolist()[:-1] if step < one.steps] == every
        assert len(one.path.unique(dim=0)) > 5


@pytest.mark.parametrize("name", RECIPES)
def test_requesting_it_changes_nothing_else(pocket, prose, name):
    requests = asking(prose, group=5 if name == "group" else None)
    asked = run(pocket, RECIPES[name], requests)
    plain = run(pocket, RECIPES[name], [dataclasses.replace(r, with_path=False) for r in requests])
    for key, one in plain.items():
        assert (one.path, one.path_steps) == (None, None)
        for field in dataclasses.fields(one):
            mine, other = getattr(one, field.name), getattr(asked[key], field.name)
            if field.name not in ("path", "path_steps"):
                same = torch.equal(mine, other) if torch.is_tensor(mine) else mine == other
                assert same, (key, field.name)


def test_nothing_is_copied_without_a_request(pocket, prose, monkeypatch):
    """Texts that request a path get one; using a path of another text would fail."""
    mine, *others = asking(prose)
    others = [dataclasses.replace(other, with_path=False) for other in others]
    found = run(pocket, RECIPES["default"], [mine, *others])
    assert [one.path is None for key, one in sorted(found.items())] == [True, False, True]
    monkeypatch.setattr("memcram.engine.batch.Subsampled.wants", lambda self, number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(pocket, RECIPES["default"], [mine])
    monkeypatch.setattr("memcram.engine.batch.Slot.note", lambda *_: None)
    assert len(run(pocket, RECIPES["default"], others)) == 2


@pytest.mark.parametrize("name", ["default", "direct"])
def test_it_does_not_depend_on_the_batch(pocket, prose, name):
    """Alone, in a batch, in a slot that another text left, and polled rarely."""
    requests = asking(prose)
    together = run(pocket, RECIPES[name], requests)
    others = [
        {key: one for r in requests for key, one in run(pocket, RECIPES[name], [r]).items()},
        run(pocket, RECIPES[name], [*requests[1:], requests[0]], batch_tokens=64),
        run(pocket, RECIPES[name], requests, poll_every=6),
    ]
    for other in others:
        for key, one in together.items():
            assert torch.equal(one.path_steps, other[key].path_steps)
            assert torch.equal(one.path, other[key].path)


@pytest.mark.parametrize(("steps", "stride"), [(3, 1), (62, 1), (63, 2), (126, 4), (300, 8)])
def test_points_are_evenly_spread_and_bounded_in_number(tiny_lm, steps, stride):
    recipe = memcram.get_recipe("direct")
    recipe = dataclasses.replace(
        recipe,
        strategy=Fixed(steps=steps),
        optimiser=dataclasses.replace(recipe.optimiser, lr=1e-300),
    )
    ids = torch.arange(20, 50)
    [one] = Engine(tiny_lm, recipe).run([CramRequest("a", ids, with_path=True)])
    assert (one.steps, one.best_step) == (
        steps,
        0,
    )  # nothing moves, so the initial vectors are the best
    assert one.path_steps.tolist() == [*range(stride, steps + 1, stride), 0]
    assert len(one.path) <= 64


@pytest.mark.parametrize(("vectors", "strides"), [(1000, (1, 1)), (40, (1, 2)), (1, (4, 4))])
def test_points_are_bounded_in_memory(tiny_lm, monkeypatch, vectors, strides):
    """Per text: one with more vectors has fewer points, but at least 8."""
    recipe = memcram.get_recipe("direct")
    recipe = dataclasses.replace(
        recipe, strategy=Fixed(steps=32), optimiser=dataclasses.replace(recipe.optimiser, lr=1e-300)
    )
    monkeypatch.setattr("memcram.engine.batch._PATH_BYTES", vectors * 4 * tiny_lm.input_width)
    requests = asking(torch.arange(20, 80), [(30, 1), (20, 2)])
    found = run(tiny_lm, recipe, requests)
    for request, stride in zip(requests, strides, strict=True):
        steps = found[request.key].path_steps.tolist()
        assert steps == [*range(stride, 33, stride), 0]
        assert len(steps) >= 8


def test_a_turn_repeated_after_out_of_memory_adds_no_point(pocket, prose):
    class Tight(Engine):
        turns = 0

        def _step(self, batch, parameters, resting):
            self.turns += 1
            if self.turns == 6 and len(batch.slots) > 1:
                raise torch.OutOfMemoryError("out of memory")
            super()._step(batch, parameters, resting)

    calm = run(pocket, RECIPES["direct"], asking(prose))
    tight = run(pocket, RECIPES["direct"], asking(prose), engine=Tight)
    for key, one in calm.items():
        assert torch.equal(one.path_steps, tight[key].path_steps)
        assert torch.equal(one.path, tight[key].path)


def test_an_interrupted_text_has_its_path_so_far(pocket, prose):
    def interrupt(status):
        if status.steps == 9:
            raise KeyboardInterrupt

    found = []

    def consume():
        for one in Engine(pocket, RECIPES["direct"]).run(asking(prose), interrupt):
            found.append(one)  # one by one: the run ends in an error

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert len(found) == 3
    whole = run(pocket, RECIPES["direct"], asking(prose))
    for one in found:
        assert one.outcome is Outcome.INTERRUPTED
        # Its turns measured the steps 0 to 8.
        assert sorted(one.path_steps.tolist()) == list(range(9))
        assert torch.equal(one.path[-1], one.mem)
        of_whole = dict(zip(whole[one.key].path_steps.tolist(), whole[one.key].path, strict=True))
        for step, point in zip(one.path_steps.tolist(), one.path, strict=True):
            assert torch.equal(point, of_whole[step])


def test_initial_vectors_that_are_not_finite_give_a_path_of_one_point(pocket, prose):
    start = torch.full((1, pocket.input_width), float("nan"))
    [one] = Engine(pocket, RECIPES["direct"]).run(asking(prose, [(12, 1)], start=start))
    assert one.outcome is Outcome.NON_FINITE
    assert one.path_steps.tolist() == [0]
