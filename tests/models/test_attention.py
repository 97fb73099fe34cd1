"""Attention to the first positions, measured and cut, against a Llama in plain torch."""

import pytest
import torch

import memcram
import tiny
from memcram.errors import ModelError
from memcram.models.attention import attention_mass, check_attention, hidden_without

FIRST = 2  # positions that attention is measured to


def rotated(x, positions, theta):
    """Rotary embedding of (position, dimension)."""
    half = x.shape[1] // 2
    angles = positions[:, None] * theta ** (-torch.arange(half).double() / half)
    a, b = x[:, :half], x[:, half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], 1)


def normed(x, norm):
    return x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight


def reference(module, embeds, cut):
    """Final states (position, d) and attention weights (layers, heads, query, key) of one text.

    Layers in `cut` hide the first positions from the later ones, as a sum over the visible keys.
    """
    states, weights = embeds, []
    n, positions = len(embeds), torch.arange(len(embeds)).double()
    config = module.config
    size = config.hidden_size // config.num_attention_heads
    for number, layer in enumerate(module.model.layers):
        x, attention = normed(states, layer.input_layernorm), layer.self_attn
        heads, mixed = [], []
        for head in range(config.num_attention_heads):
            part = slice(head * size, (head + 1) * size)
            q, k, v = (
                x @ one.weight[part].T
                for one in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            q, k = (rotated(one, positions, config.rope_parameters["rope_theta"]) for one in (q, k))
            row = torch.zeros(n, n, dtype=torch.float64)
            for query in range(n):
                hides = number in cut and query >= FIRST
                keys = [key for key in range(query + 1) if not (hides and key < FIRST)]
                row[query, keys] = (k[keys] @ q[query] / size**0.5).softmax(0)
            heads.append(row)
            mixed.append(row @ v)
        weights.append(torch.stack(heads))
        states = states + torch.cat(mixed, 1) @ attention.o_proj.weight.T
        x, mlp = normed(states, layer.post_attention_layernorm), layer.mlp
        gate = torch.nn.functional.silu(x @ mlp.gate_proj.weight.T) * (x @ mlp.up_proj.weight.T)
        states = states + gate @ mlp.down_proj.weight.T
    return normed(states, module.model.norm), torch.stack(weights)


@pytest.fixture(scope="module")
def embeds(tiny_lm64):
    noise = torch.randn(FIRST, tiny_lm64.input_width, generator=torch.Generator().manual_seed(3))
    return torch.cat([noise.double(), tiny_lm64.embed(torch.tensor([65, 12, 200, 9, 77]))])


def test_cut_layers_are_those_of_the_reference(tiny_lm64, embeds):
    cases = [[], [0], [1], [0, 1]]
    cut = torch.tensor([[layer in case for layer in range(2)] for case in cases])
    found = hidden_without(tiny_lm64, embeds, FIRST, cut)
    for states, case in zip(found, cases, strict=True):
        expected, _ = reference(tiny_lm64.module, embeds, case)
        # The model computes norms, softmax and rotations in float32 whatever the dtype.
        assert torch.allclose(states, expected, atol=1e-5)
    assert not torch.allclose(found[1], found[2], atol=1e-3)


def test_many_cases_are_those_of_single_passes(tiny_lm64, embeds, monkeypatch):
    cut = torch.tensor([[False, True], [True, False], [True, True]])
    whole = hidden_without(tiny_lm64, embeds, FIRST, cut)
    monkeypatch.setattr("memcram.models.attention._POSITIONS_AT_ONCE", 1)
    assert torch.allclose(hidden_without(tiny_lm64, embeds, FIRST, cut), whole, atol=1e-12)


def test_mass_is_that_of_the_reference(tiny_lm64, embeds):
    _, weights = reference(tiny_lm64.module, embeds, [])
    expected = weights[:, :, FIRST:, :FIRST].sum(-1).mean(-1)
    found = attention_mass(tiny_lm64, embeds, FIRST)
    assert torch.allclose(found.double(), expected, atol=1e-6)
    assert attention_mass(tiny_lm64, embeds[:FIRST], FIRST).isnan().all()


def test_model_is_left_as_it_was(tiny_lm64, embeds):
    before = tiny_lm64.module.config._attn_implementation
    states = tiny_lm64.hidden(embeds[None])
    hidden_without(tiny_lm64, embeds, FIRST, torch.ones(1, 2, dtype=torch.bool))
    attention_mass(tiny_lm64, embeds, FIRST)
    assert tiny_lm64.module.config._attn_implementation == before == "sdpa"
    assert torch.equal(tiny_lm64.hidden(embeds[None]), states)


def test_model_without_attention_is_refused(tmp_path):
    from families import FAMILIES

    lm = memcram.load_lm(str(tiny.save_model(tmp_path / "mamba", FAMILIES["Mamba"])), device="cpu")
    with pytest.raises(ModelError, match=r"MambaForCausalLM has no attention$"):
        check_attention(lm)


def test_model_whose_masks_do_nothing_is_refused(tiny_lm64, monkeypatch):
    """Layers that ignore their mask, as families do that compute it inside."""
    layer = type(tiny_lm64.module.model.layers[0])
    forward = layer.forward

    def ignoring(self, hidden_states, attention_mask=None, **options):
        n = hidden_states.shape[1]
        causal = torch.full((n, n), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)
        return forward(self, hidden_states, attention_mask=causal[None, None], **options)

    monkeypatch.setattr(layer, "forward", ignoring)
    with pytest.raises(ModelError, match="does not attend by the masks of its layers") as raised:
        check_attention(tiny_lm64)
    assert "\n" not in str(raised.value)


def test_layers_without_a_mask_are_refused(tiny_lm64, monkeypatch):
    layer = type(tiny_lm64.module.model.layers[0])
    forward = layer.forward
    monkeypatch.setattr(
        layer, "forward", lambda self, *args, **options: forward(self, *args, **options)
    )
    with pytest.raises(ModelError, match="has layers without an attention mask"):
        check_attention(tiny_lm64)


def test_model_without_weights_is_refused(tiny_lm64, monkeypatch):
    monkeypatch.setattr(type(tiny_lm64.module), "_can_set_attn_implementation", lambda _: False)
    with pytest.raises(
        ModelError, match="no attention weights unless loaded with attention 'eager'"
    ):
        check_attention(tiny_lm64)
