"""Scores of a batch equal those of the whole module, text by text."""

import pytest
import torch

import memcram
from memcram import CramRequest, Engine, UsageError
from memcram.models import scoring

LENGTHS = (1, 2, 9, 40, 17)


@pytest.fixture
def texts(tiny_lm64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, tiny_lm64.vocab_size, (n,), generator=generator) for n in LENGTHS]


@pytest.fixture
def mems(tiny_lm64):
    generator = torch.Generator().manual_seed(1)
    shape = (tiny_lm64.input_width,)
    return [
        torch.randn(1 + n % 3, *shape, dtype=torch.float64, generator=generator) for n in LENGTHS
    ]


def by_hand(lm, ids, mem=None):
    """Nats, margins and ranks by the definitions, one text through the whole module."""
    mem = torch.zeros(0, lm.input_width, dtype=lm.dtype) if mem is None else mem
    embeds = torch.cat([mem, lm.prefix, lm.embed(ids)])[None]
    logits = lm.module(inputs_embeds=embeds, use_cache=False).logits[0]
    before = len(mem) + len(lm.prefix) - 1
    for i, target in enumerate(ids.tolist()):
        if before + i < 0:
            yield float("nan"), float("nan"), -1
            continue
        row = logits[before + i]
        others = torch.cat([row[:target], row[target + 1 :]])
        rank = int((others >= row[target]).sum())
        yield -row.log_softmax(0)[target].item(), (row[target] - others.max()).item(), rank


@pytest.mark.parametrize("layout", ["mem", "mem+bos"])
@pytest.mark.parametrize("with_mem", [False, True])
def test_scores_equal_their_definitions(tiny_folder, texts, mems, layout, with_mem):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype="float64", layout=layout)
    chosen = mems if with_mem else None
    for i, one in enumerate(scoring.score(lm, texts, chosen)):
        expected = torch.tensor(list(by_hand(lm, texts[i], mems[i] if with_mem else None)))
        got = torch.stack([one.nats, one.margins, one.ranks.double()], 1)
        torch.testing.assert_close(got, expected.double(), rtol=0, atol=1e-6, equal_nan=True)


def test_first_token_given(tiny_lm64, texts, mems):
    free = scoring.score(tiny_lm64, texts, mems)
    given = scoring.score(tiny_lm64, texts, mems, first_token_given=True)
    for one, other in zip(free, given, strict=True):
        assert other.nats[0].isnan()
        assert other.ranks[0] == -1
        torch.testing.assert_close(one.nats[1:], other.nats[1:], rtol=0, atol=1e-12)


def test_small_batches_and_small_heads_change_nothing(tiny_lm64, texts, mems, monkeypatch):
    usual = scoring.score(tiny_lm64, texts, mems)
    monkeypatch.setattr(scoring, "_CPU_BATCH_TOKENS", 20)
    monkeypatch.setattr(scoring, "_LOGITS_AT_ONCE", 3 * tiny_lm64.vocab_size)
    for one, other in zip(usual, scoring.score(tiny_lm64, texts, mems), strict=True):
        torch.testing.assert_close(one.nats, other.nats, rtol=0, atol=1e-12)
        assert torch.equal(one.ranks, other.ranks)


def test_scores_of_crammed_vectors_are_those_the_engine_kept(pocket, prose):
    recipe = memcram.get_recipe("default").with_steps(30)
    [crammed] = Engine(pocket, recipe).run([CramRequest("a", prose[:24])])
    [scored] = scoring.score(pocket, [prose[:24]], [crammed.mem])
    assert int((scored.ranks == 0).sum()) == crammed.n_correct
    torch.testing.assert_close(scored.margins, crammed.margins, rtol=0, atol=1e-3)
    assert torch.equal(crammed.learned_step >= 0, crammed.margins > 0)
    assert (crammed.learned_step <= crammed.best_step).all()


def test_autocast_keeps_float32_vectors(prose):
    lm = memcram.load_lm("pocket", device="cpu", autocast="bfloat16")
    assert lm.dtype_name == "float32+bfloat16"
    recipe = memcram.get_recipe("default").with_steps(40)
    [crammed] = Engine(lm, recipe).run([CramRequest("a", prose[:8])])
    assert crammed.mem.dtype == torch.float32
    assert crammed.n_correct > 2
    [cast] = scoring.score(lm, [prose[:40]])
    [full] = scoring.score(memcram.load_lm("pocket", device="cpu"), [prose[:40]])
    difference = (cast.nats - full.nats)[1:].abs()
    assert 0 < difference.max() < 0.5
    with pytest.raises(UsageError, match="autocast"):
        memcram.compress("a text", lm)


def test_recipe_that_is_given_t1_makes_no_archive(pocket):
    with pytest.raises(UsageError, match=r"kuratov2025\+t1"):
        memcram.compress("a text", pocket, recipe="kuratov2025")


def test_recipe_of_fixed_length_has_no_horizon(pocket):
    with pytest.raises(UsageError, match="given length"):
        memcram.compress("a text", pocket, recipe="kuratov2025+t1")
