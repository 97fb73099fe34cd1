"""Checks that hold for every family; a family is one row of `families.FAMILIES`."""

import dataclasses

import pytest
import torch
from families import FAMILIES

import memcram
import tiny
from fake_cuda import CUDA, fake_cuda, on_cuda
from memcram.archive.format import Archive
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.errors import ModelError
from memcram.models import decoding
from memcram.models.attention import attention_mass, check_attention, hidden_without
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.fixed import Fixed

# In float64 rounding is 1e-16 of the logits, some tens of operations deep ...
ROUNDING = 1e-9
# ... unless transformers computes a part in float32 whatever the dtype: the eager softmax, which
# Gemma-2 needs for its soft cap; Mamba's state and its logits.
FLOAT32_INSIDE = {"Gemma-2": 1e-5, "Mamba": 1e-4}
TEXT = "Rain on the pier."  # 17 bytes, 17 tokens
CHUNK_TOKENS = 9  # chunks of 9 and 8 tokens
STEPS = 1000


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def rounding(family):
    return FLOAT32_INSIDE.get(family, ROUNDING)


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("family"), FAMILIES[family])


@pytest.fixture(scope="module")
def lm(folder):
    return memcram.load_lm(str(folder), device="cpu")


@pytest.fixture(scope="module")
def lm64(folder):
    return memcram.load_lm(str(folder), device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def ids(lm64):
    """(batch, position) token ids."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, lm64.vocab_size, (3, 21), generator=generator)


@pytest.fixture(scope="module")
def mems(lm64):
    """(batch, K, width) vectors of the size of embeddings, and one far larger."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(4, 1, lm64.input_width, generator=generator, dtype=torch.float64)
    return noise * lm64.embedding_std * torch.tensor([1.0, 1.0, 1.0, 30.0])[:, None, None]


@pytest.fixture(scope="module")
def embeds(lm64, mems, ids):
    """(batch, position, width): a large vector, then a text."""
    return torch.cat([mems[-1:].expand(len(ids), -1, -1), lm64.embed(ids)], dim=1)


@pytest.fixture(scope="module")
def logits(lm64, embeds):
    return lm64.head(lm64.hidden(embeds))


def difference(a, b):
    return (a - b).abs().max().item()


@torch.no_grad()
def test_trunk_and_head_equal_the_module(lm64, embeds, logits, rounding, note):
    whole = lm64.module(inputs_embeds=embeds, use_cache=False).logits
    note("parts/whole", difference(logits, whole))
    assert difference(logits, whole) < rounding


@torch.no_grad()
def test_embeddings_equal_those_of_the_module(lm64, ids, rounding, note):
    by_ids = lm64.module(input_ids=ids, use_cache=False).logits
    by_embeds = lm64.head(lm64.hidden(lm64.embed(ids)))
    note("ids/embeds", difference(by_embeds, by_ids))
    assert difference(by_embeds, by_ids) < rounding
    assert lm64.embed(ids).shape == (*ids.shape, lm64.input_width)


def test_init_has_the_size_of_the_embeddings(lm64):
    everything = lm64.embed(torch.arange(lm64.module.get_input_embeddings().weight.shape[0]))
    assert lm64.embedding_std == pytest.approx(everything.std().item(), rel=1e-5)


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing(lm64, embeds, logits, rounding, note):
    short = embeds[:1, :13]
    alone = lm64.head(lm64.hidden(short))
    note("padding, mates", difference(alone, logits[:1, :13]))
    assert difference(alone, logits[:1, :13]) < rounding


@torch.no_grad()
def test_cached_logits_equal_uncached_logits(lm64, embeds, logits, rounding, note):
    cache, start = None, 4
    found, cache = lm64.advance(embeds[:, :start], cache)
    steps = [found]
    for position in range(start, embeds.shape[1]):
        found, cache = lm64.advance(embeds[:, position : position + 1], cache)
        steps.append(found)
    cached = torch.stack(steps, dim=1)
    note("cached/uncached", difference(cached, logits[:, start - 1 :]))
    assert difference(cached, logits[:, start - 1 :]) < rounding


def test_vectors_do_not_depend_on_batch_mates(lm64, ids, rounding, note):
    recipe = dataclasses.replace(
        memcram.get_recipe("default"), strategy=Fixed(steps=10, margin=1e9)
    )
    requests = [CramRequest(n, ids[0, :n], vectors=k) for n, k in ((5, 1), (20, 2), (11, 1))]
    together = {crammed.key: crammed for crammed in Engine(lm64, recipe).run(requests)}
    found = 0.0
    for request in requests:
        [alone] = Engine(lm64, recipe).run([request])
        mate = together[request.key]
        assert (alone.steps, alone.best_step) == (10, mate.best_step)
        found = max(found, difference(alone.mem, mate.mem))
        found = max(found, difference(alone.margins, mate.margins))
    note("mem, 10 steps", found)
    assert found < rounding
    assert max(crammed.best_step for crammed in together.values()) > 0


def test_gradients_reach_the_vectors_only(lm64, ids):
    recipe = memcram.get_recipe("default").with_steps(2)
    before = {name: value.clone() for name, value in lm64.module.state_dict().items()}
    [crammed] = Engine(lm64, recipe).run([CramRequest("a", ids[0, :8])])
    assert crammed.steps == 2
    assert all(not p.requires_grad and p.grad is None for p in lm64.module.parameters())
    assert all(torch.equal(before[n], value) for n, value in lm64.module.state_dict().items())


def test_gradient_of_the_vectors_is_dense(lm64, embeds):
    inputs = embeds.clone().requires_grad_()
    lm64.head(lm64.hidden(inputs))[:, 12].sum().backward()
    assert (inputs.grad[:, 0] != 0).all()
    assert (inputs.grad[:, 13:] == 0).all()  # causal: later positions have no effect


def test_generate_equals_that_of_transformers(lm64, mems, note):
    """Only ids are compared; in float64 no two logits are equal."""
    n = 24
    ours = lm64.generate(mems, n)
    theirs = lm64.module.generate(
        inputs_embeds=mems,
        attention_mask=torch.ones(mems.shape[:2], dtype=torch.long),
        max_new_tokens=n,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    note("generate", "same ids" if torch.equal(ours, theirs) else "OTHER ids")
    assert torch.equal(ours, theirs)


def test_shrinking_batch_decodes_each_chunk_as_alone(lm64, mems, note):
    lengths = [3, 12, 5, 2]
    together = decoding.greedy(lm64, list(mems), lengths)
    found = 0.0
    for mem, n, one in zip(mems, lengths, together, strict=True):
        [alone] = decoding.greedy(lm64, [mem], [n])
        assert torch.equal(alone.ids, one.ids)
        found = max(found, difference(alone.margins, one.margins))
    note("shrinking batch", found)
    assert found < 1e-5  # margins are kept in float32


def test_refilled_rows_decode_each_chunk_as_alone(lm64, mems, note):
    lengths = [7, 12, 5, 2, 9, 11]
    chunks = [*mems, mems[:2].flatten(0, 1), mems[2:].flatten(0, 1)]  # the last two of K = 2
    together = decoding.greedy(lm64, chunks, lengths, batch_tokens=26)
    found = 0.0
    for mem, n, one in zip(chunks, lengths, together, strict=True):
        [alone] = decoding.greedy(lm64, [mem], [n])
        assert torch.equal(alone.ids, one.ids)
        found = max(found, difference(alone.margins, one.margins))
    note("refilled rows" if lm64.takes_padding else "groups", found)
    assert found < 1e-5


def test_crammed_stored_read_and_decoded_exactly(lm, note):
    archive = memcram.compress(TEXT, lm, chunk_tokens=CHUNK_TOKENS, steps=STEPS)
    read = Archive.from_bytes(archive.to_bytes())
    assert memcram.decompress(read, lm) == TEXT.encode()
    assert len(read.tensors.correction_positions) == 0
    assert len(read.tensors.guard_positions) == 0
    assert min(read.chunk_tokens) >= 8
    truth = torch.tensor(lm.tokenize(TEXT)).split(read.chunk_tokens)
    decoded = decoding.greedy(lm, read.mems, read.chunk_tokens)
    assert all(torch.equal(one.ids, chunk) for one, chunk in zip(decoded, truth, strict=True))
    note("smallest margin (float32)", f"{read.tensors.chunk_margins.min():.3f}")
    generator = torch.Generator().manual_seed(3)
    for mem, chunk in zip(read.mems, truth, strict=True):
        random = torch.randn(mem.shape, generator=generator)
        control = lm.generate(random * mem.norm() / random.norm(), len(chunk))
        assert not torch.equal(control, chunk)


@torch.no_grad()
def test_first_layers_equal_those_of_the_whole_model(folder, lm64, embeds, note):
    short = memcram.load_lm(str(folder), device="cpu", dtype="float64", layers=1)
    assert (short.layers, lm64.layers) == (1, 2)
    whole, kept = lm64.module.state_dict(), short.module.state_dict()
    assert set(kept) < set(whole)
    assert all(torch.equal(value, whole[name]) for name, value in kept.items())
    states = [
        lm.module(inputs_embeds=embeds, use_cache=False, output_hidden_states=True).hidden_states
        for lm in (short, lm64)
    ]
    assert torch.equal(states[0][0], states[1][0])
    found = difference(short.head(short.hidden(embeds)), lm64.head(lm64.hidden(embeds)))
    note("one layer/two", found)
    assert found > 1e-3
    cached, cache = short.advance(embeds[:, :4], None)
    cached, _ = short.advance(embeds[:, 4:5], cache)
    # Attention with a cache rounds in another order; the laws above say how far.
    assert difference(cached, short.head(short.hidden(embeds[:, :5]))[:, -1]) < 1e-3
    assert short.identity.fingerprint != lm64.identity.fingerprint


def test_steps_to_eight_tokens(lm, note):
    recipe = memcram.get_recipe("default").with_steps(STEPS)
    text = torch.tensor(lm.tokenize(TEXT))[:8]
    [crammed] = Engine(lm, recipe).run([CramRequest("a", text)])
    note("steps to 8 tokens", crammed.best_step)
    assert crammed.outcome == Outcome.CORRECT
    assert torch.equal(lm.generate(crammed.mem, 8), text)


def test_forward_and_backward_do_not_wait_for_a_gpu(lm):
    embeds = torch.randn(2, 16, lm.input_width, generator=torch.Generator().manual_seed(0))
    with fake_cuda() as device:
        moved, inputs = on_cuda(lm), embeds.to(CUDA).requires_grad_()
        device.waits.clear()
        hidden = moved.hidden(inputs)
        hidden.sum().backward()
        assert device.waits == []
        torch.testing.assert_close(hidden.detach().cpu(), lm.hidden(embeds), rtol=1e-3, atol=1e-3)


def test_attention_is_measured_and_cut(lm64, family, embeds, rounding, note):
    if lm64.is_recurrent:
        with pytest.raises(ModelError, match="has no attention"):
            check_attention(lm64)
        return
    check_attention(lm64)
    text, other = embeds[0], embeds[0].clone()
    other[0] = embeds[0, 0].flip(0)
    nothing = torch.zeros(1, lm64.layers, dtype=torch.bool)
    uncut = hidden_without(lm64, text, 1, nothing)
    scale = uncut.abs().max()
    eager = (uncut - lm64.hidden(text[None])).abs().max() / scale
    # Eager attention of many families takes its softmax in float32.
    assert eager < max(rounding, 1e-5)
    cut = hidden_without(lm64, text, 1, ~nothing)[0, 1:]
    changed = hidden_without(lm64, other, 1, ~nothing)[0, 1:]
    note("cut", (cut - changed).abs().max().item())
    assert torch.allclose(cut, changed, atol=1e-9 * scale.item())
    assert not torch.allclose(uncut[0, 1:], hidden_without(lm64, other, 1, nothing)[0, 1:])
    mass = attention_mass(lm64, text, 1)
    assert mass.shape == (lm64.layers, lm64.module.config.num_attention_heads)
    assert ((mass >= 0) & (mass <= 1)).all()
    assert mass.max() > 0
