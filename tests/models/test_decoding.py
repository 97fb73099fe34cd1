"""Greedy decoding equals that of transformers, whatever else is in the batch."""

import dataclasses

import pytest
import torch

from memcram.models import decoding, load_lm
from memcram.models.accounting import margins
from memcram.models.caches import position_bytes, takes_padding


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


SHAPES = [(1, 5), (3, 17), (1, 30), (2, 1), (1, 2), (3, 16), (1, 29), (4, 1), (1, 12), (2, 9)]


@pytest.fixture(scope="module")
def chunks(pocket):
    """Vectors, and tokens of each: K and the number of tokens differ."""
    mems = [random_mem(pocket, k, seed=i) for i, (k, _) in enumerate(SHAPES)]
    return mems, [n for _, n in SHAPES]


@pytest.fixture(scope="module")
def alone(pocket, chunks):
    """Each chunk decoded alone."""
    return [decoding.greedy(pocket, [mem], [n])[0] for mem, n in zip(*chunks, strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.predicted, other.predicted)
        # float32 rounding of logits between batch shapes
        torch.testing.assert_close(one.margins, other.margins, rtol=0, atol=1e-3)


def spied(monkeypatch, lm):
    """Rows, columns before the call and padding of each call of `advance`."""
    advance, calls = lm.advance, []

    def noting(embeds, cache, first=None):
        calls.append((len(embeds), cache.get_seq_length() if cache else 0, first is not None))
        return advance(embeds, cache, first)

    monkeypatch.setattr(lm, "advance", noting)
    return calls


@pytest.mark.parametrize("takes_padding", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 40, 64, 100, 100_000])
def test_chunks_in_a_batch_equal_chunks_decoded_alone(
    pocket, chunks, alone, monkeypatch, batch_tokens, takes_padding
):
    assert pocket.takes_padding
    monkeypatch.setattr(pocket, "takes_padding", takes_padding)
    assert_same(decoding.greedy(pocket, *chunks, batch_tokens=batch_tokens), alone)


@pytest.mark.parametrize("seed", range(4))
def test_random_chunks_equal_chunks_decoded_alone(tiny_lm64, seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 25, (16,), generator=generator).tolist()
    mems = [random_mem(tiny_lm64, 1, seed=i) for i in range(16)]
    alone = [
        decoding.greedy(tiny_lm64, [mem], [n])[0] for mem, n in zip(mems, lengths, strict=True)
    ]
    assert_same(decoding.greedy(tiny_lm64, mems, lengths, batch_tokens=60 + 50 * seed), alone)


def test_a_waiting_chunk_takes_the_row_of_a_finished_one(tiny_lm64, monkeypatch):
    """Four rows: the long chunk's batch holds all others, three at a time."""
    lengths = [30, *[10] * 9]
    mems = [random_mem(tiny_lm64, 1, seed=i) for i in range(10)]
    assert tiny_lm64.takes_padding
    calls = spied(monkeypatch, tiny_lm64)
    order = [i for i, _ in decoding.stream(tiny_lm64, mems, lengths, batch_tokens=120)]
    assert order == [1, 2, 3, 4, 5, 6, 0, 7, 8, 9]
    assert [rows for rows, _, _ in calls] == [4] * 30
    assert [padded for _, _, padded in calls] == [False] * 10 + [True] * 20


def test_a_model_that_counts_positions_itself_is_not_padded(tiny_lm64, monkeypatch):
    """Rotary positions are right until columns are dropped; the trial drops one."""
    assert takes_padding(tiny_lm64)
    parts = dataclasses.replace(tiny_lm64._parts, takes_positions=False)
    monkeypatch.setattr(tiny_lm64, "_parts", parts)
    assert not takes_padding(tiny_lm64)


def test_finished_chunks_leave_the_batch(tiny_lm64, monkeypatch):
    mems = [random_mem(tiny_lm64, 1, seed=i) for i in range(8)]
    calls = spied(monkeypatch, tiny_lm64)
    decoding.greedy(tiny_lm64, mems, list(range(1, 9)))
    assert [rows for rows, _, _ in calls] == list(range(8, 0, -1))


def test_the_cache_stays_within_its_budget_and_the_model(tiny_lm64, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 40, (60,), generator=generator).tolist()
    mems = [random_mem(tiny_lm64, 1, seed=i) for i in range(60)]
    assert tiny_lm64.takes_padding
    calls = spied(monkeypatch, tiny_lm64)
    decoding.greedy(tiny_lm64, mems, lengths, batch_tokens=400)
    assert all(columns < max(lengths) for _, columns, _ in calls)
    # Columns that are no longer used are dropped once they are an eighth.
    assert all(rows * (columns + 1) <= 400 * 8 / 7 for rows, columns, _ in calls)
    used, steps = sum(lengths), sum(rows for rows, _, _ in calls)
    assert used <= steps < 1.2 * used


def test_a_chunk_longer_than_the_budget_is_decoded_alone(tiny_lm64, monkeypatch):
    mems = [random_mem(tiny_lm64, 1, seed=i) for i in range(3)]
    assert tiny_lm64.takes_padding
    calls = spied(monkeypatch, tiny_lm64)
    decoding.greedy(tiny_lm64, mems, [5, 20, 5], batch_tokens=10)
    assert [rows for rows, _, _ in calls] == [1] * 30


def test_the_cache_stays_within_its_bytes(tiny_lm, monkeypatch):
    [layers] = {len(tiny_lm.advance(tiny_lm.embed(torch.zeros(1, 1).long()), None)[1].layers)}
    heads = tiny_lm.module.config.num_key_value_heads * tiny_lm.module.config.head_dim
    assert position_bytes(tiny_lm) == 4 * 2 * layers * heads
    mems = [random_mem(tiny_lm, 1, seed=i) for i in range(12)]
    assert tiny_lm.takes_padding
    monkeypatch.setattr(decoding, "_CPU_BATCH_TOKENS", 100)
    monkeypatch.setattr(decoding, "_CACHE_BYTES", 31 * position_bytes(tiny_lm))
    calls = spied(monkeypatch, tiny_lm)
    decoding.greedy(tiny_lm, mems, [10] * 12)
    assert [rows for rows, _, _ in calls] == [1, *[3] * 40]


def test_no_chunks_and_chunks_without_tokens(pocket):
    assert decoding.greedy(pocket, [], []) == []
    found = decoding.greedy(pocket, [random_mem(pocket, 1)] * 3, [0, 2, 0])
    assert [len(one.ids) for one in found] == [0, 2, 0]


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


def test_forced_tokens_of_the_beginning_leave_the_rest_free(pocket):
    mem = random_mem(pocket, 1)
    [free] = decoding.greedy(pocket, [mem], [12])
    [forced] = decoding.greedy(pocket, [mem], [12], [free.ids[:2]])
    assert torch.equal(forced.ids, free.ids)
