"""Greedy decoding equals that of transformers, whatever else is in the batch."""

import pytest
import torch

from memcram.models import decoding, load_lm
from memcram.models.accounting import margins


def random_mem(lm, *shape, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, lm.input_width, generator=generator) * scale * lm.embedding_std


def generate(lm, mem, n):
    """Decode with transformers; `min_new_tokens` keeps eos from ending a text early."""
    prefix = lm.prefix.expand(len(mem), *lm.prefix.shape)
    embeds = torch.cat([mem, prefix], dim=1)
    return lm.module.generate(
        inputs_embeds=embeds,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        do_sample=False,
        max_new_tokens=n,
        eos_token_id=None,
        pad_token_id=0,
    )


@pytest.mark.parametrize("layout", ["mem", "mem+bos"])
@pytest.mark.parametrize(("batch", "k"), [(1, 1), (3, 1), (2, 4)])
def test_equals_transformers_generate(batch, k, layout):
    lm = load_lm("pocket", device="cpu", layout=layout)
    mem = random_mem(lm, batch, k, seed=k)
    ours = lm.generate(mem, n_tokens=24)
    assert torch.equal(ours, generate(lm, mem, 24))
    assert torch.equal(lm.generate(mem[0], n_tokens=24), ours[0])


def test_eos_does_not_end_a_text(tiny_lm):
    """The tiny model's eos becomes the most likely token, and is decoded like any other."""
    mem = random_mem(tiny_lm, 1, 1)
    first = tiny_lm.generate(mem, n_tokens=1)[0, 0].item()
    before = tiny_lm.module.generation_config.eos_token_id
    tiny_lm.module.generation_config.eos_token_id = first
    try:
        assert len(tiny_lm.generate(mem, n_tokens=12)[0]) == 12
        assert tiny_lm.generate(mem, n_tokens=12)[0, 0] == first
    finally:
        tiny_lm.module.generation_config.eos_token_id = before


SHAPES = [(1, 5), (3, 17), (1, 30), (2, 1), (1, 2), (3, 16), (1, 29)]  # K, tokens


@pytest.mark.parametrize("batch_tokens", [1, 64, 100_000])
def test_chunks_in_a_batch_equal_chunks_decoded_alone(pocket, batch_tokens):
    mems = [random_mem(pocket, k, seed=i) for i, (k, _) in enumerate(SHAPES)]
    lengths = [n for _, n in SHAPES]
    seen = []
    together = decoding.greedy(
        pocket, mems, lengths, batch_tokens=batch_tokens, on_chunk=seen.append
    )
    assert sum(seen) == len(SHAPES)
    for mem, n, one in zip(mems, lengths, together, strict=True):
        [alone] = decoding.greedy(pocket, [mem], [n])
        assert len(one.ids) == n
        assert torch.equal(one.ids, alone.ids)
        assert torch.equal(one.predicted, alone.predicted)
        # float32 rounding of logits between batch shapes
        torch.testing.assert_close(one.margins, alone.margins, rtol=0, atol=1e-3)


def test_free_running_feeds_back_its_own_tokens(pocket):
    [one] = decoding.greedy(pocket, [random_mem(pocket, 2)], [20])
    assert torch.equal(one.ids, one.predicted)
    assert (one.margins >= 0).all()


def test_forced_tokens_replace_predictions(pocket):
    mem = random_mem(pocket, 2)
    [free] = decoding.greedy(pocket, [mem], [12])
    wanted = torch.full((12,), -1)
    wanted[3] = (free.ids[3] + 1) % pocket.vocab_size
    [forced] = decoding.greedy(pocket, [mem], [12], [wanted])
    assert torch.equal(forced.ids[:3], free.ids[:3])
    assert forced.ids[3] == wanted[3]
    assert forced.predicted[3] == free.ids[3]
    assert forced.margins[3] < 0
    assert not torch.equal(forced.ids[4:], free.ids[4:])


@pytest.mark.parametrize("k", [1, 3])
def test_cached_logits_equal_uncached_ones(pocket, prose, k):
    ids, mem = prose[:40], random_mem(pocket, k)
    [cached] = decoding.greedy(pocket, [mem], [40], [ids])
    embeds = torch.cat([mem, pocket.embed(ids[:-1])])[None]
    with torch.no_grad():
        logits = pocket.module(inputs_embeds=embeds, use_cache=False).logits[0, k - 1 :]
    torch.testing.assert_close(cached.margins, margins(logits, ids), rtol=0, atol=1e-4)
    assert torch.equal(cached.predicted, logits.argmax(-1))
