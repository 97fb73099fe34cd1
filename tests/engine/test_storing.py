"""Vectors on the values of a storage precision, with a gradient straight through the rounding."""

import dataclasses

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.engine.storing import OnGrid, storing_recipe
from memcram.quantisation import decode, encode, scales_of
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.fixed import Fixed


def wide_start(vectors, precision):
    return torch.cat([vectors, scales_of(vectors, precision)[:, None]], 1)


@pytest.mark.parametrize("precision", ["int1", "int4", "int8", "float16", "bfloat16"])
def test_mem_is_bit_for_bit_what_the_codes_stand_for(precision):
    vectors = 1e4 * torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    grid = OnGrid(precision)
    parameters = grid.init(wide_start(vectors, precision), 20, torch.Generator())
    mem = grid.mem({name: one[None] for name, one in parameters.items()})[0]
    scales = scales_of(vectors, precision)
    codes = encode(mem, scales, precision)
    assert torch.equal(decode(codes, scales, precision, torch.float32), mem)
    assert torch.equal(codes, encode(vectors, scales, precision))


def test_the_gradient_ignores_the_rounding():
    vectors = torch.randn(1, 6, generator=torch.Generator().manual_seed(0))
    grid = OnGrid("int2")
    parameters = grid.init(wide_start(vectors, "int2"), 6, torch.Generator())
    unit = parameters["unit"][None].requires_grad_()
    wanted = torch.arange(6.0)
    mem = grid.mem({"unit": unit} | {n: parameters[n][None] for n in ("rms", "scale")})
    (mem * wanted).sum().backward()
    torch.testing.assert_close(unit.grad, parameters["rms"][None] * wanted[None, None])


def test_a_rounded_text_becomes_correct_again(pocket, prose):
    recipe = memcram.get_recipe("default")
    recipe = dataclasses.replace(recipe, strategy=Fixed(steps=150, margin=0.02))
    ids = prose[:10]
    [plain] = Engine(pocket, recipe).run([CramRequest(0, ids)])
    start = wide_start(plain.mem, "int4")
    engine = Engine(pocket, storing_recipe(recipe, "int4"))
    [one] = engine.run([CramRequest(0, ids, start=start)])
    assert one.outcome is Outcome.CORRECT
    assert one.margins.min() > 0.02
    assert one.mem.unique().numel() <= 16
