"""Each published recipe against straight-line code.

One text (or one group) in plain torch: its AdamW, its cross-entropy, the transformers module called
directly, and the settings of the paper, without code of the package.
"""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional

import memcram
from memcram import CramRequest, Engine

STEPS = 50


@pytest.fixture(scope="module")
def lm(tiny_lm64):
    return tiny_lm64


def random_text(lm, n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, lm.vocab_size, (n,), generator=generator)


def half_known_text(lm, n, start):
    """What the model decodes from vectors near `start`, with every fourth token changed."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(start.shape, generator=generator, dtype=start.dtype)
    ids = lm.generate(start + 0.3 * start.std() * noise, n)
    ids[3::4] = random_text(lm, n, seed=2)[3::4]
    return ids


def logits_of(lm, mem, ids):
    """(n, vocabulary): row i predicts token i, teacher-forced."""
    table = lm.module.get_input_embeddings().weight
    embeds = torch.cat([mem, table[ids[:-1]]])[None]
    return lm.module(inputs_embeds=embeds, use_cache=False).logits[0, len(mem) - 1 :]


def is_right(logits, targets):
    return logits.argmax(-1) == targets


def cosine(step, lr, warmup=100, total=STEPS, final=1e-3):
    """Learning rate of the step after `step` steps."""
    t = step + 1
    if t <= warmup:
        return lr * t / warmup
    share = min(1.0, (t - warmup) / max(1, total - warmup))
    return final + (lr - final) * 0.5 * (1 + math.cos(math.pi * share))


def straight_kuratov(lm, ids, start, *, given):
    """Mean cross-entropy; AdamW(0.01, (0.9, 0.9), 0.01); t₁ given or in the loss."""
    mem = start.clone().requires_grad_()
    adamw = torch.optim.AdamW([mem], lr=0.01, betas=(0.9, 0.9), eps=1e-8, weight_decay=0.01)
    seen = []
    for step in range(STEPS + 1):
        logits, targets = logits_of(lm, mem, ids)[int(given) :], ids[int(given) :]
        loss = functional.cross_entropy(logits, targets)
        seen.append((step, int(is_right(logits, targets).sum()), loss.item()))
        adamw.zero_grad()
        loss.backward()
        adamw.step()
    return seen


def straight_tarasov(lm, ids, start, linear=None):
    """One token at a time, the same vectors and optimisers from stage to stage.

    With `linear`, the vectors are its outputs, and it belongs to this text.
    """
    z = start.clone().requires_grad_()
    trained = [[z], list(linear.parameters())] if linear else [[z]]
    settings = {"lr": 0.1, "betas": (0.9, 0.9), "eps": 1e-8, "weight_decay": 0.01}
    adamws = [torch.optim.AdamW(parameters, **settings) for parameters in trained]
    seen, step = [], 0
    for n in range(1, len(ids) + 1):
        while True:
            logits = logits_of(lm, linear(z) if linear else z, ids[:n])
            right = is_right(logits, ids[:n])
            loss = functional.cross_entropy(logits, ids[:n])
            seen.append((step, int(right.long().cumprod(0).sum()), loss.item()))
            if right.all():
                break
            if step == STEPS:
                return seen
            for adamw in adamws:
                for group in adamw.param_groups:
                    group["lr"] = cosine(step, 0.1)
                adamw.zero_grad()
            loss.backward()
            for adamw in adamws:
                adamw.step()
            step += 1
    return seen


def linear_map(weight, bias):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return linear


def straight_low_dim(lm, texts, starts, weight, bias):
    """One W and b for all texts, their own AdamW; the mean of the texts' losses."""
    z = [start.clone().requires_grad_() for start in starts]
    linear = linear_map(weight, bias)
    settings = {"lr": 0.1, "betas": (0.9, 0.9), "eps": 1e-8, "weight_decay": 0.01}
    # z of each text and the map have optimisers of their own.
    adamws = [torch.optim.AdamW(z, **settings), torch.optim.AdamW(linear.parameters(), **settings)]
    aims = [1] * len(texts)
    seen = [[] for _ in texts]
    for step in range(STEPS + 1):
        losses = []
        for i, ids in enumerate(texts):
            n = aims[i]
            logits = logits_of(lm, linear(z[i]), ids[:n])
            right = is_right(logits, ids[:n])
            losses.append(functional.cross_entropy(logits, ids[:n]))
            seen[i].append((step, int(right.long().cumprod(0).sum()), losses[-1].item()))
            aims[i] += bool(right.all())
        # The gradient of z[i] must not shrink with the number of texts: each has its own mean.
        for adamw in adamws:
            adamw.zero_grad()
            for group in adamw.param_groups:
                group["lr"] = cosine(step, 0.1)
        torch.stack(losses).sum().backward()
        for parameter in linear.parameters():
            parameter.grad /= len(texts)
        for adamw in adamws:
            adamw.step()
    return seen


def curve(lm, recipe, requests, wanted, company=()):
    """(step, held, loss) of the wanted texts, in one run with the company's texts."""
    engine = Engine(lm, recipe)
    done = {one.key: one for one in engine.run([*company, *requests])}
    return [done[key].curve.tolist() for key in wanted]


def agree(ours, theirs):
    assert len(ours) == len(theirs)
    for (step, held, loss), (their_step, their_held, their_loss) in zip(ours, theirs, strict=True):
        assert (step, held) == (their_step, their_held)
        assert loss == pytest.approx(their_loss, rel=0, abs=1e-9)


def mates(lm, k):
    """Texts of other lengths and K that share the batch."""
    return [
        CramRequest(("mate", n), random_text(lm, n, 100 + n), k + n % 2, seed=n)
        for n in (5, 17, 26)
    ]


STRAIGHT = {
    "kuratov2025": lambda lm, ids, start: straight_kuratov(lm, ids, start, given=True),
    "kuratov2025+t1": lambda lm, ids, start: straight_kuratov(lm, ids, start, given=False),
    "tarasov2026": straight_tarasov,
}


@pytest.mark.parametrize("company", [False, True], ids=["alone", "in a batch"])
@pytest.mark.parametrize("name", STRAIGHT)
def test_the_recipe_equals_its_straight_line_code(lm, name, company):
    recipe = memcram.get_recipe(name).with_steps(STEPS)
    k, generator = 2, torch.Generator().manual_seed(7)
    start = recipe.start.draw((k, lm.input_width), lm.embedding_std, generator)
    ids = half_known_text(lm, 19, start)
    theirs = STRAIGHT[name](lm, ids, start)
    request = CramRequest("a", ids, k, start=start)
    [ours] = curve(lm, recipe, [request], ["a"], mates(lm, k) if company else ())
    agree(ours, theirs)
    assert len({held for _, held, _ in theirs}) > 1  # something was learned


@pytest.mark.parametrize("company", [False, True], ids=["alone", "in a batch"])
def test_a_low_dimensional_text_has_its_own_map(lm, company):
    recipe = memcram.get_recipe("tarasov2026+low-dim@k=6").with_steps(STEPS)
    start = recipe.start.draw((2, 6), 1.0, torch.Generator().manual_seed(3))
    made = recipe.parametrisation.init(start, lm.input_width, torch.Generator().manual_seed(4))
    linear = linear_map(made["weight"], made["bias"])
    ids = half_known_text(lm, 19, linear(start).detach())
    theirs = straight_tarasov(lm, ids, start, linear)
    request = CramRequest("a", ids, 2, seed=4, start=start)
    [ours] = curve(lm, recipe, [request], ["a"], mates(lm, 2) if company else ())
    agree(ours, theirs)
    assert len({held for _, held, _ in theirs}) > 1


@pytest.mark.parametrize("company", [False, True], ids=["alone", "in a batch"])
def test_low_dimensional_texts_of_a_group_share_one_map(lm, company):
    name = "tarasov2026+low-dim@k=6,in_group=true,group_size=10"
    recipe = memcram.get_recipe(name).with_steps(STEPS)
    texts = [random_text(lm, n, seed=n) for n in (40, 41, 42)]
    starts = [
        recipe.start.draw((1, 6), 1.0, torch.Generator().manual_seed(i)) for i in range(len(texts))
    ]
    made = recipe.parametrisation.init(starts[0], lm.input_width, torch.Generator().manual_seed(11))
    theirs = straight_low_dim(lm, texts, starts, made["weight"], made["bias"])
    requests = [
        CramRequest(i, ids, 1, start=start, group=11)
        for i, (ids, start) in enumerate(zip(texts, starts, strict=True))
    ]
    other = [
        dataclasses.replace(one, group=12, vectors=1, key=("other", i))
        for i, one in enumerate(requests)
    ]
    found = curve(lm, recipe, requests, range(len(texts)), other[:2] if company else ())
    for ours, straight in zip(found, theirs, strict=True):
        agree(ours, straight)


def test_the_settings_are_those_of_the_papers():
    """Against the table of published recipes, read by eye into these lines."""
    kuratov, t1 = memcram.get_recipe("kuratov2025"), memcram.get_recipe("kuratov2025+t1")
    assert (kuratov.strategy.steps, kuratov.strategy.patience) == (5000, 2000)
    assert kuratov.first_token_given
    assert (
        dataclasses.replace(t1, name=kuratov.name, source=kuratov.source, first_token_given=True)
        == kuratov
    )
    tarasov = memcram.get_recipe("tarasov2026")
    assert (tarasov.strategy.steps, tarasov.strategy.stage_steps) == (10_000, 1000)
    optimiser = tarasov.optimiser
    assert optimiser.rate(1) == pytest.approx(0.001)
    assert optimiser.rate(100) == pytest.approx(0.1)
    assert optimiser.rate(5050) == pytest.approx((0.1 + 1e-3) / 2)
    assert optimiser.rate(10_000) == pytest.approx(1e-3)
    low = memcram.get_recipe("tarasov2026+low-dim")
    assert (low.parametrisation.k, low.group_size, low.parametrisation.in_group) == (
        256,
        None,
        False,
    )
    assert all(recipe.bos_in_text for recipe in (kuratov, t1, tarasov, low))
