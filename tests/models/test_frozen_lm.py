"""Facts of a model, and that its parts equal the whole."""

import pytest
import torch

import memcram
import tiny
from memcram import UsageError

FAMILIES = {
    "llama": (tiny.llama_config(), 32),
    "llama_tied": (tiny.llama_config(tie_word_embeddings=True), 32),
    "opt": (tiny.opt_config(), 24),  # word_embed_proj_dim, not hidden_size
    "opt_plain": (tiny.opt_config(word_embed_proj_dim=32, do_layer_norm_before=True), 32),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    config, width = FAMILIES[request.param]
    folder = tiny.save_model(tmp_path_factory.mktemp(request.param), config)
    return memcram.load_lm(str(folder), device="cpu"), width


def test_input_width_is_that_of_the_embeddings(family):
    lm, width = family
    assert lm.input_width == width
    assert lm.embed(torch.tensor([1, 2])).shape == (2, width)
    assert lm.vocab_size == tiny.VOCABULARY


def test_weights_are_frozen_and_in_eval_mode(family):
    lm, _ = family
    assert not lm.module.training
    assert not any(p.requires_grad for p in lm.module.parameters())
    before = [p.clone() for p in lm.module.parameters()]
    recipe = memcram.get_recipe("default").with_steps(3)
    ids = torch.arange(5)
    [one] = memcram.Engine(lm, recipe).run([memcram.CramRequest("a", ids)])
    assert one.steps == 3
    assert all(torch.equal(a, b) for a, b in zip(before, lm.module.parameters(), strict=True))
    assert all(p.grad is None for p in lm.module.parameters())


def test_parts_equal_the_whole(family):
    lm, width = family
    embeds = torch.randn(2, 9, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = lm.module(inputs_embeds=embeds).logits
        parts = lm.head(lm.hidden(embeds))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_right_padding_changes_nothing_before_it(family):
    lm, width = family
    embeds = torch.randn(1, 9, width, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(embeds, (0, 0, 0, 7))
    with torch.no_grad():
        torch.testing.assert_close(
            lm.hidden(padded)[:, :9], lm.hidden(embeds), rtol=1e-4, atol=1e-4
        )


def test_gradient_reaches_the_inputs(family):
    lm, width = family
    embeds = torch.randn(1, 4, width, requires_grad=True)
    lm.head(lm.hidden(embeds))[0, -1, 0].backward()
    assert embeds.grad[0, 0].abs().max() > 0


def test_embedding_std_is_over_the_whole_matrix(pocket):
    weight = pocket.module.get_input_embeddings().weight
    assert pocket.embedding_std == pytest.approx(weight.std().item())


def test_layout_with_bos(tiny_folder):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", layout="mem+bos")
    assert lm.bos_id == 0
    assert torch.equal(lm.prefix, lm.module.get_input_embeddings().weight[:1])


def test_a_tokenizer_that_gives_nothing_adds_no_bos(tiny_folder, monkeypatch):
    lm = memcram.load_lm(str(tiny_folder), device="cpu")
    monkeypatch.setattr(lm, "tokenizer", lambda text, **_: {"input_ids": []})
    assert not lm.adds_bos


def test_layout_without_bos_has_no_prefix(tiny_lm):
    assert tiny_lm.prefix.shape == (0, 32)


def test_model_without_bos_refuses_that_layout(tiny_lm):
    class NoBos:
        bos_token_id = None

    config = tiny_lm.module.config
    before, config.bos_token_id = config.bos_token_id, None
    try:
        with pytest.raises(UsageError, match="needs a BOS token"):
            memcram.FrozenLM(tiny_lm.module, NoBos(), tiny_lm.identity, "mem+bos")
    finally:
        config.bos_token_id = before


@pytest.mark.parametrize("text", ["A lamp.", " two  spaces ", "Don 't , clean .", "é語👩\n"])
def test_tokens_carry_no_bos_and_nothing_is_cleaned_up(pocket, tiny_lm, text):
    for lm in (pocket, tiny_lm):
        ids = lm.tokenize(text)
        assert lm.bos_id not in ids
        assert lm.detokenize(ids) == text
