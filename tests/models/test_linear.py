"""Frozen linear maps against torch's own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from memcram.models.linear import FrozenLinear, freeze_linears, frozen_linear


def example(*, bias, dtype=torch.float32, rows=(3, 17)):
    generator = torch.Generator().manual_seed(7)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    return random(*rows, 24), random(40, 24), random(40) if bias else None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_result_and_gradient_are_torch_s(dtype, bias):
    inputs, weight, shift = example(bias=bias, dtype=dtype)
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    found = frozen_linear(ours, weight, shift)
    expected = functional.linear(theirs, weight, shift)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    (found**2).sum().backward()
    (expected**2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert ours.grad.abs().max() > 1


@pytest.mark.parametrize("rows", [2, 16, 31, 64, 500])
def test_a_row_has_the_same_bits_in_any_batch(rows):
    inputs, weight, shift = example(bias=True, rows=(600,))
    together = frozen_linear(inputs, weight, shift)
    assert torch.equal(frozen_linear(inputs[:rows], weight, shift), together[:rows])


def test_every_linear_of_a_module_is_replaced_and_copies_stay_their_own():
    module = nn.Sequential(nn.Linear(24, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 4)))
    inputs = torch.ones(2, 24)
    before = module(inputs)
    freeze_linears(module.requires_grad_(False))
    assert sum(isinstance(part, FrozenLinear) for part in module.modules()) == 2
    torch.testing.assert_close(module(inputs), before)
    other = copy.deepcopy(module)
    other[0].weight.zero_()
    torch.testing.assert_close(module(inputs), before)
    assert not torch.equal(other(inputs), before)


def test_autocast_still_casts():
    inputs, weight, _ = example(bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert frozen_linear(inputs, weight).dtype == torch.bfloat16


def test_the_result_may_be_changed_in_place():
    inputs, weight, _ = example(bias=False)
    inputs.requires_grad_()
    frozen_linear(inputs, weight).mul_(2.0).sum().backward()
    expected = 2 * weight.sum(0).expand_as(inputs)
    torch.testing.assert_close(inputs.grad, expected, rtol=1e-4, atol=1e-4)
