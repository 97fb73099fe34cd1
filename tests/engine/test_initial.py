"""Every parametrisation starts from given vectors, or says that it cannot."""

import dataclasses

import pytest
import torch

import memcram
from memcram import CramRequest, Engine, UsageError
from memcram.engine.finishing import Relative
from memcram.recipes.parametrisations import Direct, Direction, LowDim


def started(lm, parametrisation, mem, **request):
    """The first measured `[mem]` of a text that starts from these vectors."""
    recipe = dataclasses.replace(
        memcram.get_recipe("direct").with_steps(1), parametrisation=parametrisation
    )
    ids = torch.arange(1, 9)
    asked = CramRequest("a", ids, len(mem), init=mem, with_path=True, **request)
    [crammed] = Engine(lm, recipe).run([asked])
    first = crammed.path_steps.tolist().index(0)
    return crammed.path[first]


def random_mem(lm, k, rms=40.0):
    mem = torch.randn(k, lm.input_width, generator=torch.Generator().manual_seed(k)).to(lm.dtype)
    return rms * mem / mem.square().mean(-1, keepdim=True).sqrt()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(
    "parametrisation", [Direct(), LowDim(k=4), Relative(), Direction(rms=40.0)], ids=str
)
def test_first_measured_vectors_are_the_given_ones(tiny_lm64, parametrisation, k):
    mem = random_mem(tiny_lm64, k)
    torch.testing.assert_close(started(tiny_lm64, parametrisation, mem), mem, rtol=1e-9, atol=1e-9)


def test_only_the_bias_moves_for_one_vector():
    generator = torch.Generator().manual_seed(0)
    drawn = LowDim(k=4).init(torch.rand(1, 4), 10, generator)
    placed = LowDim(k=4).at(torch.randn(1, 10, generator=generator), drawn)
    assert torch.equal(placed["z"], drawn["z"])
    torch.testing.assert_close(placed["weight"], drawn["weight"], rtol=0, atol=1e-6)
    assert not torch.equal(placed["bias"], drawn["bias"])


@pytest.mark.parametrize(
    ("parametrisation", "k"), [(LowDim(k=4), 6), (Direction(rms=50.0), 1)], ids=str
)
def test_refuses_vectors_that_it_cannot_express(tiny_lm64, parametrisation, k):
    with pytest.raises(UsageError, match=f"init: .*{type(parametrisation).__name__}"):
        started(tiny_lm64, parametrisation, random_mem(tiny_lm64, k))


def test_refuses_texts_that_share_parameters(tiny_lm64):
    with pytest.raises(UsageError, match=r"init: .*share parameters"):
        started(tiny_lm64, LowDim(k=4, in_group=True), random_mem(tiny_lm64, 1), group=3)


@pytest.mark.parametrize("change", [lambda m: m[:, :-1], lambda m: m[0], lambda m: m / 0])
def test_refuses_other_shapes_and_numbers(tiny_lm64, change):
    mem = change(random_mem(tiny_lm64, 2))
    request = CramRequest("a", torch.arange(1, 9), 2, init=mem)
    with pytest.raises(UsageError, match=r"init: got vectors of shape .* allowed: finite ones"):
        list(Engine(tiny_lm64, memcram.get_recipe("direct").with_steps(1)).run([request]))
