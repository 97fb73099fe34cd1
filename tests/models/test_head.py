"""The head without all logits: margins and gradients against the dense path, in float64."""

import dataclasses

import pytest
import torch
from torch import nn

from memcram.models import head as head_module
from memcram.models.accounting import margins
from memcram.models.head import Head
from memcram.recipes.components import COMPONENTS
from memcram.recipes.objectives.base import MarginObjective

WIDTH, TOKENS, ROWS = 12, 103, 70
POSTS = {
    "plain": {},
    "scaled (Cohere, Granite)": {"scale": 0.0625},
    "soft cap (Gemma-2)": {"cap": 30.0},
    "both": {"scale": 3.0, "cap": 5.0},
}
OBJECTIVES = [kind() for kind in COMPONENTS["objective"] if issubclass(kind, MarginObjective)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, the last ones not full."""
    monkeypatch.setattr(head_module, "_SEARCH_ROWS", 32)
    monkeypatch.setattr(head_module, "_SEARCH_TOKENS", 16)


def example(*, bias, certain, post):
    """A head, hidden states and targets; where certain, the target's logit is far ahead."""
    generator = torch.Generator().manual_seed(5)
    linear = nn.Linear(WIDTH, TOKENS, bias=bias, dtype=torch.float64).requires_grad_(False)
    rows = torch.randn(TOKENS, WIDTH, dtype=torch.float64, generator=generator)
    linear.weight.copy_(rows / rows.norm(dim=1, keepdim=True))
    targets = torch.randint(0, TOKENS, (ROWS,), generator=generator)
    # The first and the last id of a block, of the vocabulary.
    targets[:4] = torch.tensor([0, 15, 16, TOKENS - 1])
    hidden = torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=generator)
    if certain:
        hidden = hidden * 0.01 + 12 * linear.weight[targets]
    return Head(linear, **post), hidden, targets


@pytest.mark.parametrize("certain", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("post", POSTS.values(), ids=POSTS)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_losses_and_gradients_are_those_of_all_logits(objective, post, bias, certain):
    head, hidden, targets = example(bias=bias, certain=certain, post=post)
    dense, sparse = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()

    expected = objective(head(dense), targets)
    found = head.margins(sparse, targets)
    torch.testing.assert_close(found.detach(), expected.margin, rtol=1e-12, atol=1e-12)

    [gradient] = torch.autograd.grad(expected.loss.sum(), dense)
    [own] = torch.autograd.grad(objective.of_margin(found).sum(), sparse)
    torch.testing.assert_close(own, gradient, rtol=1e-10, atol=1e-12)
    assert bool((expected.margin > 0).all()) is certain
    assert certain or gradient.abs().max() > 0.01


def test_a_layer_before_the_linear_map_is_applied_once():
    head, hidden, targets = example(bias=True, certain=False, post={})
    layered = dataclasses.replace(head, before=torch.tanh)
    found = layered.margins(hidden, targets)
    assert torch.equal(layered(hidden), head(hidden.tanh()))
    assert torch.equal(found, head.margins(hidden.tanh(), targets))


def test_margins_of_float32_are_those_of_the_logits():
    head, hidden, targets = example(bias=True, certain=False, post={})
    head, hidden = Head(head.linear.float()), hidden.float()
    found = head.margins(hidden, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, margins(head(hidden), targets), rtol=1e-5, atol=1e-5)


def test_a_row_does_not_depend_on_the_others():
    head, hidden, targets = example(bias=True, certain=False, post={"cap": 30.0})
    together = head.margins(hidden, targets)
    alone = torch.cat([head.margins(hidden[i : i + 1], targets[i : i + 1]) for i in range(ROWS)])
    assert torch.equal(together, alone)
