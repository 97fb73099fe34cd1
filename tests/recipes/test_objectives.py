"""Token accounting against tables worked by hand; losses against torch and plain formulas."""

import dataclasses
import math

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.models.accounting import Accounting, margins
from memcram.recipes import components


def nats(logits, target):
    """−log p of the target."""
    return math.log(sum(math.exp(x) for x in logits)) - logits[target]


def margin_of(logits, target):
    return logits[target] - max(x for i, x in enumerate(logits) if i != target)


def softplus(x):
    return math.log1p(math.exp(x))


# Each loss, and the loss of one token in plain Python.
LOSSES = [
    (components.CrossEntropy(), nats),
    (components.ColdCrossEntropy(T=0.25), lambda z, t: 0.25 * nats([4 * x for x in z], t)),
    (components.HingeMargin(tau=0.5), lambda z, t: max(0.0, 0.5 - margin_of(z, t))),
    (components.HingeMargin(tau=1.0, power=2), lambda z, t: max(0.0, 1.0 - margin_of(z, t)) ** 2),
    (
        components.SmoothMargin(tau=0.2),
        lambda z, t: 0.2 * softplus(-margin_of(z, t) / 0.2),
    ),
    (
        components.SmoothMargin(tau=2.0),
        lambda z, t: 2.0 * softplus(-margin_of(z, t) / 2.0),
    ),
]

# Worked by hand. Inputs are m1 … mK, then BOS if there is a prefix, then t1 … t(n-1):
# (K, prefix, n, t1 given) -> counted tokens, positions that predict them, input length
ACCOUNTS = [
    ((1, 0, 4, False), [0, 1, 2, 3], [0, 1, 2, 3], 4),  # m t1 t2 t3
    ((2, 0, 3, False), [0, 1, 2], [1, 2, 3], 4),  # m m t1 t2
    ((1, 1, 3, False), [0, 1, 2], [1, 2, 3], 4),  # m B t1 t2
    ((3, 1, 2, False), [0, 1], [3, 4], 5),  # m m m B t1
    ((1, 0, 4, True), [1, 2, 3], [1, 2, 3], 4),
    ((2, 1, 3, True), [1, 2], [3, 4], 5),
    ((1, 0, 1, False), [0], [0], 1),  # m
    ((1, 0, 1, True), [], [], 1),
]


@pytest.mark.parametrize(("settings", "tokens", "positions", "length"), ACCOUNTS)
def test_accounting(settings, tokens, positions, length):
    account = Accounting(*settings)
    assert list(account.tokens) == tokens
    assert list(account.positions) == positions
    assert account.input_length == length


def test_margins_by_hand():
    logits = torch.tensor([[1.0, 4.0, 2.5], [1.0, 4.0, 2.5], [3.0, 3.0, 0.0]])
    found = margins(logits, torch.tensor([1, 2, 0]))
    assert found.tolist() == [1.5, -1.5, 0.0]
    assert (found > 0).tolist() == [True, False, False]  # a tie counts as wrong


def test_margins_of_half_precision_are_float32():
    logits = torch.tensor([[300.0, 1.5]], dtype=torch.bfloat16)
    assert margins(logits, torch.tensor([0])).dtype == torch.float32


def example(seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 7, dtype=torch.float64, generator=generator)
    return logits, torch.randint(0, 7, (9,), generator=generator)


@pytest.mark.parametrize(("objective", "formula"), LOSSES, ids=[repr(one) for one, _ in LOSSES])
def test_loss_is_the_formula(objective, formula):
    logits, targets = example()
    expected = [
        formula(row, target) for row, target in zip(logits.tolist(), targets.tolist(), strict=True)
    ]
    scores = objective(logits, targets)
    torch.testing.assert_close(scores.loss, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(scores.margin, margins(logits, targets))
    assert scores.loss.max() > 0


@pytest.mark.parametrize("objective", [objective for objective, _ in LOSSES], ids=repr)
def test_gradient_is_the_finite_difference(objective):
    logits, targets = example(seed=1)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: objective(x, targets).loss, logits)
    assert not objective(logits, targets).margin.requires_grad


def test_every_loss_has_its_formula():
    assert {type(one) for one, _ in LOSSES} == set(components.COMPONENTS["objective"])


def test_cross_entropy_is_torch_s():
    logits, targets = example(seed=2)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.equal(components.CrossEntropy()(logits, targets).loss, expected)


@pytest.mark.parametrize("first_token_given", [False, True])
@pytest.mark.parametrize("layout", ["mem", "mem+bos"])
def test_the_engine_is_a_straight_line_written_out(tiny_folder, layout, first_token_given):
    """Batch of one, torch's own AdamW and cross-entropy, no code of the package."""
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype="float64", layout=layout)
    k, n, steps = 2, 21, 50
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(0, lm.vocab_size, (n,), generator=generator)
    start = torch.randn(k, lm.input_width, dtype=torch.float64, generator=generator)
    optimiser = memcram.get_recipe("direct").optimiser
    recipe = dataclasses.replace(
        memcram.get_recipe("direct").with_steps(steps),
        objective=components.CrossEntropy(),
        optimiser=dataclasses.replace(optimiser, lr=0.05, betas=(0.9, 0.95), weight_decay=0.01),
        first_token_given=first_token_given,
    )

    mem = start.clone().requires_grad_()
    adamw = torch.optim.AdamW([mem], lr=0.05, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)
    table = lm.module.get_input_embeddings().weight
    bos = table[[0]] if layout == "mem+bos" else table[:0]
    before = k + len(bos) - 1
    best = (-1, -math.inf, None)
    for step in range(steps + 1):
        embeds = torch.cat([mem, bos, table[ids]])[None]
        logits = lm.module(inputs_embeds=embeds).logits[0, before : before + n]
        skip = int(first_token_given)
        logits, targets = logits[skip:], ids[skip:]
        others = logits.scatter(1, targets[:, None], -math.inf).amax(1)
        margin = (logits.gather(1, targets[:, None])[:, 0] - others).detach()
        score = (int((margin > 0).sum()), margin.min().item())
        if score > best[:2]:
            best = (*score, mem.detach().clone())
        if step < steps:
            adamw.zero_grad()
            torch.nn.functional.cross_entropy(logits, targets).backward()
            adamw.step()

    [ours] = Engine(lm, recipe).run([CramRequest("a", ids, k, start=start)])
    assert ours.steps == steps
    assert ours.n_correct == best[0]
    torch.testing.assert_close(ours.mem, best[2], rtol=0, atol=1e-9)
    assert (ours.mem - start).abs().max() > 0.1
