"""A text's vectors do not depend on the other texts in its batch, nor on when it joined."""

import dataclasses

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.recipes.objectives.cross_entropy import CrossEntropy
from memcram.recipes.objectives.smooth_margin import SmoothMargin

# (tokens, K) of the batch-mates: inputs shorter than the smallest batch, odd, and long.
MATES = [(3, 1), (12, 1), (60, 2), (61, 1), (100, 4)]
OBJECTIVES = {"cross_entropy": CrossEntropy(), "smooth_margin": SmoothMargin(tau=0.2)}


def requests(ids, shapes, seed=0):
    starts = torch.tensor([0, *[n + 5 for n, _ in shapes]]).cumsum(0).tolist()
    return [
        CramRequest((n, k), ids[at : at + n], vectors=k, seed=seed + i)
        for i, (at, (n, k)) in enumerate(zip(starts, shapes, strict=False))
    ]


def run(lm, recipe, wanted, **settings):
    return {one.key: one for one in Engine(lm, recipe, **settings).run(wanted)}


def recipe_with(objective, steps):
    return dataclasses.replace(
        memcram.get_recipe("default").with_steps(steps), objective=OBJECTIVES[objective]
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_pocket_in_float32_is_bitwise_the_same_alone_and_in_a_batch(pocket, prose, objective):
    recipe = recipe_with(objective, 25)
    wanted = requests(prose, MATES)
    together = run(pocket, recipe, wanted)
    assert len(together) == len(MATES)
    for request in wanted:
        alone = run(pocket, recipe, [request])[request.key]
        assert torch.equal(alone.mem, together[request.key].mem), request.key
        assert torch.equal(alone.margins, together[request.key].margins), request.key
        assert alone.best_step == together[request.key].best_step


def test_refilled_slots_change_nothing(pocket, prose):
    recipe = recipe_with("smooth_margin", 15)
    wanted = requests(prose, MATES)
    at_once = run(pocket, recipe, wanted, batch_tokens=10_000)
    # 110 positions: only a few at once, the rest wait for a free slot.
    in_turns = run(pocket, recipe, wanted, batch_tokens=110)
    for key, one in at_once.items():
        assert torch.equal(one.mem, in_turns[key].mem), key


def test_the_seeds_of_other_texts_change_nothing(pocket, prose):
    recipe = recipe_with("smooth_margin", 15)
    mine, *others = requests(prose, [(30, 2), (17, 1), (44, 1)])
    first = run(pocket, recipe, [mine, *others])
    reseeded = [dataclasses.replace(other, seed=other.seed + 100) for other in others]
    second = run(pocket, recipe, [mine, *reseeded])
    assert torch.equal(first[mine.key].mem, second[mine.key].mem)
    assert not torch.equal(first[others[0].key].mem, second[others[0].key].mem)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fifty_steps_in_float64_agree_within_1e_9(tiny_lm64, objective):
    recipe = recipe_with(objective, 50)
    ids = torch.randint(0, tiny_lm64.vocab_size, (400,), generator=torch.Generator().manual_seed(1))
    wanted = requests(ids, MATES)
    together = run(tiny_lm64, recipe, wanted, batch_tokens=260)
    for request in wanted:
        alone = run(tiny_lm64, recipe, [request])[request.key]
        torch.testing.assert_close(together[request.key].mem, alone.mem, rtol=0, atol=1e-9)
        assert together[request.key].steps == alone.steps
