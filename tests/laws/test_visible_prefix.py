"""Visible tokens between `[mem]` and the text: fed, and counted nowhere."""

import math

import pytest
import torch

import memcram
from memcram import CramRequest, Engine, UsageError
from memcram.models import decoding, load_lm
from memcram.models.accounting import margins
from memcram.models.scoring import score
from memcram.texts import TextSample

RECIPE = memcram.get_recipe("default").with_steps(60)


@pytest.fixture(scope="module", params=["mem", "mem+bos"])
def lm(request):
    return load_lm("pocket", device="cpu", layout=request.param)


def logits(lm, mem, prefix, ids):
    """Logits of the tokens `ids`, written out: [mem] [BOS] [prefix] [ids without the last]."""
    parts = [mem, lm.prefix, lm.embed(prefix), lm.embed(ids[:-1])]
    return lm.logits(torch.cat(parts)[None])[0, -len(ids) :]


def test_engine_measures_the_tokens_after_the_prefix(lm, prose):
    prefix, ids = prose[:4], prose[4:9]
    request = CramRequest("a", ids, 2, prefix=prefix)
    mates = [CramRequest(n, prose[:n], 1) for n in (3, 11)]
    crammed = {one.key: one for one in Engine(lm, RECIPE).run([*mates, request])}["a"]
    assert len(crammed.margins) == len(ids)
    expected = margins(logits(lm, crammed.mem, prefix, ids), ids)
    torch.testing.assert_close(crammed.margins, expected, rtol=1e-3, atol=1e-3)
    assert str(crammed.outcome) == "right"
    # The prefix matters: without it, these vectors score otherwise.
    other = margins(logits(lm, crammed.mem, prefix[:0], ids), ids)
    assert (other - expected).abs().max() > 1e-2
    [back] = decoding.greedy(lm, [crammed.mem], [len(ids)], prefixes=[prefix])
    assert torch.equal(back.ids, ids)
    torch.testing.assert_close(back.margins, expected, rtol=1e-3, atol=1e-3)
    assert torch.equal(lm.generate(crammed.mem, len(ids), prefix.tolist()), ids)


def test_finished_with_the_prefix_too(pocket, prose):
    """Vectors optimised in bfloat16 are finished in float32, after the same visible tokens."""
    request = CramRequest("a", prose[5:9], 1, prefix=prose[:5])
    [crammed] = Engine(pocket, RECIPE, compute_dtype="bfloat16").run([request])
    expected = margins(logits(pocket, crammed.mem, request.prefix, request.ids), request.ids)
    torch.testing.assert_close(crammed.margins, expected, rtol=1e-3, atol=1e-3)


def test_scores_are_those_after_the_prefix(lm, prose):
    mem = torch.randn(2, lm.input_width, generator=torch.Generator().manual_seed(1))
    prefixes, texts = [prose[:4], prose[:0]], [prose[4:9], prose[:7]]
    found = score(lm, texts, [mem, mem], prefixes=prefixes)
    for one, prefix, ids in zip(found, prefixes, texts, strict=True):
        each = logits(lm, mem, prefix, ids)
        nats = torch.nn.functional.cross_entropy(each, ids, reduction="none")
        torch.testing.assert_close(one.nats, nats, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.margins, margins(each, ids), rtol=1e-3, atol=1e-3)
    # The bare LM predicts t₁ from the prefix.
    [bare] = score(lm, [prose[4:9]], prefixes=[prose[:4]])
    assert not bool(bare.nats.isnan().any())


def test_cram_counts_the_rest_of_the_text(pocket):
    text = "It was a dark and stormy night"
    ids = pocket.tokenize(text)
    crammed = memcram.cram(text, pocket, prefix_tokens=3)
    assert len(crammed.margins) == len(ids) - 3
    assert pocket.generate(crammed.mem, len(ids) - 3, ids[:3]).tolist() == ids[3:]


@pytest.mark.parametrize("n", [-1, 8, 100])
def test_visible_tokens_leave_one_to_predict(pocket, n):
    with pytest.raises(UsageError, match=r"prefix_tokens: got .*, allowed: 0 to 4 for a text of 5"):
        memcram.cram("It was a dark night", pocket, prefix_tokens=n)


def test_no_room_for_the_visible_tokens(tiny_lm):
    request = CramRequest("a", torch.arange(1, 100), 1, prefix=torch.arange(1, 60))
    with pytest.raises(UsageError, match="exceed the model's 128 positions, allowed: 69 tokens"):
        list(Engine(tiny_lm, RECIPE).run([request]))


def test_horizon_counts_the_tokens_after_the_prefix(pocket, prose):
    sample = TextSample(origin="a", offset=0, ids=prose[:14], text="a")
    recipe = memcram.get_recipe("default").with_steps(60)
    [one] = memcram.measure_horizons(pocket, [sample], recipe, prefix_tokens=4)
    assert one.horizon <= 10
    assert one.censored == (one.horizon == 10)
    [bare] = score(pocket, [prose[4 : 4 + one.horizon]], prefixes=[prose[:4]])
    assert one.lm_nats == pytest.approx(float(bare.nats[1:].sum()), rel=1e-5)
    assert not math.isnan(one.bits_per_dimension)


def test_horizon_refuses_a_negative_prefix(pocket):
    with pytest.raises(UsageError, match="prefix_tokens: got -1, allowed: 0 or more"):
        memcram.measure_horizons(pocket, [], RECIPE, prefix_tokens=-1)
