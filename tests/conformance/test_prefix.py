"""A prefix of keys and values, checked for every family against a forward pass written out here."""

import dataclasses

import pytest
import torch
from families import FAMILIES
from transformers import DynamicCache

import memcram
import tiny
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.errors import ModelError
from memcram.models import decoding
from memcram.models.prefix import PrefixLM
from memcram.models.scoring import score
from memcram.recipes.strategies.fixed import Fixed

K = 2
# Where transformers computes a part in float32 whatever the dtype; elsewhere rounding is 1e-16.
ROUNDING = {"Gemma-2": 1e-5}
# Grouped heads, and a sliding window: tests that cram run on these two families only.
some_families = pytest.mark.parametrize(
    "family", ["Llama, grouped, untied", "Gemma-3"], indirect=True, scope="module"
)
DIRECT = memcram.get_recipe("direct@lr=0.3")


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name != "Mamba"])
def family(request):
    return request.param


@pytest.fixture(scope="module")
def rounding(family):
    return ROUNDING.get(family, 1e-9)


@pytest.fixture(scope="module")
def lm(family, tmp_path_factory):
    folder = tiny.save_model(tmp_path_factory.mktemp("family"), FAMILIES[family])
    return memcram.load_lm(str(folder), device="cpu", dtype="float64")


@pytest.fixture(scope="module")
def prefixed(lm):
    return PrefixLM(lm, K)


@pytest.fixture(scope="module")
def ids(lm):
    """(n,) token ids, more than a sliding window."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, lm.vocab_size, (21,), generator=generator)


@pytest.fixture(scope="module")
def prefix(prefixed):
    """(K, width) a random prefix."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(K, prefixed.input_width, generator=generator, dtype=torch.float64)


def difference(a, b):
    return (a - b).abs().max().item()


def explicit_states(lm, prefixed, prefix, ids):
    """States (n, d) of BOS and ids[:-1] after a cache that is filled with the prefix by hand."""
    cache = DynamicCache(config=lm.module.config)
    rest = prefix * prefixed._scale
    for layer in range(lm.layers):
        states = []
        for part in prefixed._cached[2 * layer : 2 * layer + 2]:
            assert part.layer == layer
            size = part.heads * part.width
            # (K, heads · width) → (1, heads, K, width)
            states.append(rest[:, :size].reshape(1, K, part.heads, part.width).transpose(1, 2))
            rest = rest[:, size:]
        cache.update(*states, layer)
    assert rest.shape == (K, 0)
    fed = torch.cat([torch.tensor([lm.bos_id]), ids[:-1]])
    output = lm.module.base_model(inputs_embeds=lm.embed(fed)[None], past_key_values=cache)
    return output.last_hidden_state[0]


def test_states_and_gradient_equal_those_of_a_filled_cache(
    lm, prefixed, prefix, ids, rounding, note
):
    found = []
    for own in (True, False):
        given = prefix.clone().requires_grad_()
        if own:
            later = torch.cat([prefixed.prefix, prefixed.embed(ids[:-1])])
            states = prefixed.hidden(torch.cat([given, later])[None])[0, K:]
        else:
            states = explicit_states(lm, prefixed, given, ids)
        weights = torch.linspace(-1, 1, states.numel(), dtype=torch.float64).view_as(states)
        (states * weights).sum().backward()
        found.append((states.detach(), given.grad))
    (states, gradient), (other_states, other_gradient) = found
    note("prefix, states", difference(states, other_states))
    assert difference(states, other_states) < rounding
    assert difference(gradient, other_gradient) < rounding * max(1, gradient.abs().max().item())
    assert (gradient != 0).any(0).float().mean() > 0.9


@some_families
def test_prefixes_do_not_depend_on_batch_mates(prefixed, ids, rounding):
    recipe = dataclasses.replace(DIRECT, strategy=Fixed(steps=5, margin=1e9))
    requests = [CramRequest(n, ids[:n], vectors=K) for n in (5, 20)]
    together = {crammed.key: crammed for crammed in Engine(prefixed, recipe).run(requests)}
    for request in requests:
        [alone] = Engine(prefixed, recipe).run([request])
        mate = together[request.key]
        assert alone.best_step == mate.best_step > 0
        assert difference(alone.mem, mate.mem) < rounding
        assert difference(alone.margins, mate.margins) < max(rounding, 1e-6)


def test_decoding_equals_teacher_forcing(prefixed, prefix, rounding):
    """Free-running tokens, fed back, get the margins that decoding gave them."""
    lengths = [18, 7]
    decoded = decoding.greedy(prefixed, [prefix, -prefix], lengths)
    scored = score(prefixed, [one.ids for one in decoded], [prefix, -prefix])
    for one, forced, n in zip(decoded, scored, lengths, strict=True):
        assert len(one.ids) == n
        assert (forced.ranks == 0).all()
        assert difference(one.margins, forced.margins) < max(rounding, 1e-5)


@some_families
def test_crammed_prefix_decodes_the_text(prefixed, ids):
    [crammed] = Engine(prefixed, DIRECT.with_steps(300)).run([CramRequest("a", ids[:9], K)])
    assert crammed.mem.shape == (K, prefixed.input_width)
    assert crammed.n_correct == 9
    [decoded] = decoding.greedy(prefixed, [crammed.mem], [9])
    assert torch.equal(decoded.ids, ids[:9])
    [other] = decoding.greedy(prefixed, [crammed.mem.flip(1)], [9])
    assert not torch.equal(other.ids, ids[:9])


def test_model_without_keys_and_values_is_refused(tmp_path):
    lm = memcram.load_lm(str(tiny.save_model(tmp_path, FAMILIES["Mamba"])), device="cpu")
    with pytest.raises(ModelError, match="MambaForCausalLM: it has a cache with more than keys"):
        PrefixLM(lm)
