"""Low-dimensional vectors: the map, and groups that share it."""

import dataclasses

import pytest
import torch

import memcram
from memcram import CramRequest, Engine, ModelError
from memcram.recipes.parametrisations import Direction, LowDim
from memcram.recipes.strategies.fixed import Fixed


def recipe(**changes):
    shared = memcram.get_recipe("tarasov2026+low-dim@k=8,in_group=true,group_size=10")
    settings = {"strategy": Fixed(steps=12)}
    return dataclasses.replace(shared, **(settings | changes))


def group(lm, number, lengths=(6, 9, 12)):
    generator = torch.Generator().manual_seed(number)
    return [
        CramRequest(
            (number, i),
            torch.randint(1, lm.vocab_size, (n,), generator=generator),
            1,
            i,
            None,
            number,
        )
        for i, n in enumerate(lengths)
    ]


def results(lm, requests, **settings):
    engine = Engine(lm, recipe(), **settings)
    return {one.key: one.mem for one in engine.run(requests)}


def test_mem_is_the_affine_map():
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(3, 4, dtype=torch.float64)
    one = LowDim(k=4).init(start, 10, generator)
    mem = LowDim(k=4).mem({name: value[None] for name, value in one.items()})[0]
    torch.testing.assert_close(mem, start @ one["weight"].T + one["bias"])
    assert one["weight"].abs().max() <= 0.5  # 1/√k


@pytest.mark.parametrize(("width", "eighth", "auto"), [(256, 32, 128), (576, 72, 256), (16, 4, 8)])
def test_coordinates_by_the_width(width, eighth, auto):
    assert LowDim().start_width(width) == eighth
    assert LowDim(k="auto").start_width(width) == auto


def test_a_group_does_not_depend_on_the_batch_but_on_its_members(tiny_lm64):
    first, second = group(tiny_lm64, 1), group(tiny_lm64, 2)
    alone, mixed = results(tiny_lm64, first), results(tiny_lm64, second + first)
    fewer = results(tiny_lm64, first[:2])
    for key, mem in alone.items():
        torch.testing.assert_close(mem, mixed[key], rtol=0, atol=1e-9)
    assert (fewer[1, 0] - alone[1, 0]).abs().max() > 1e-3


def test_a_group_stays_together(tiny_lm64):
    """With room for four texts, two groups of three go one after the other."""
    first, second = group(tiny_lm64, 1), group(tiny_lm64, 2)
    together = results(tiny_lm64, first + second)
    tight = results(tiny_lm64, first + second, batch_tokens=64)
    for key, mem in together.items():
        torch.testing.assert_close(mem, tight[key], rtol=0, atol=1e-9)


def test_out_of_memory_sends_whole_groups_back(tiny_lm64, monkeypatch):
    requests = group(tiny_lm64, 1) + group(tiny_lm64, 2)
    calm = results(tiny_lm64, requests)
    hidden = type(tiny_lm64).hidden
    limit = 3

    def crowded(self, embeds):
        if len(embeds) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden(self, embeds)

    monkeypatch.setattr(type(tiny_lm64), "hidden", crowded)
    for key, mem in results(tiny_lm64, requests).items():
        torch.testing.assert_close(mem, calm[key], rtol=0, atol=1e-9)
    limit = 2
    with pytest.raises(ModelError, match="group"):
        results(tiny_lm64, requests)


def test_vectors_are_bitwise_the_same_next_to_a_text_with_more_of_them(pocket, prose):
    alone = dataclasses.replace(
        memcram.get_recipe("default").with_steps(20), parametrisation=LowDim(k=8)
    )
    request = CramRequest("a", prose[:20], 2)
    mates = [CramRequest(k, prose[k : 30 + k], k) for k in (1, 5)]
    [by_itself] = Engine(pocket, alone).run([request])
    mixed = {one.key: one for one in Engine(pocket, alone).run([*mates, request])}
    assert torch.equal(by_itself.mem, mixed["a"].mem)


def test_a_direction_keeps_its_size_and_forgets_that_of_the_start():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    direction = Direction(rms=50.0)
    ones = [direction.init(factor * start, 6, generator)["unit"] for factor in (1.0, 1e-6)]
    torch.testing.assert_close(ones[0], ones[1])
    unit = (7 * ones[0])[None].requires_grad_()
    mem = direction.mem({"unit": unit})
    torch.testing.assert_close(mem.square().mean(-1).sqrt(), torch.full((1, 3), 50.0).double())
    torch.testing.assert_close(mem[0] / 50, start / start.square().mean(-1, keepdim=True).sqrt())
    (mem * torch.randn(mem.shape, generator=generator, dtype=torch.float64)).sum().backward()
    along = (unit.grad * unit).sum(-1)  # no gradient along the vector
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-9)
