"""Models that memcram cannot work with are refused when they are loaded, in one line."""

import threading
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    BertConfig,
    BertGenerationConfig,
    CTRLConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MiniMaxConfig,
    OpenAIGPTConfig,
    ProphetNetConfig,
    RecurrentGemmaConfig,
    RemBertConfig,
    RwkvConfig,
    XLMConfig,
)

import memcram
import tiny
from memcram import ModelError
from memcram.models.checks import check_model

_USUAL = {
    "vocab_size": tiny.VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_GROUPED = _USUAL | {"num_key_value_heads": 2, "pad_token_id": 0}
_GPT = {"vocab_size": tiny.VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}

REFUSED = {
    "GPT-1": (OpenAIGPTConfig(**_GPT), "no usable KV cache"),
    "RWKV": (
        RwkvConfig(vocab_size=tiny.VOCABULARY, hidden_size=32, num_hidden_layers=2),
        "no usable KV cache",
    ),
    "XLM": (
        XLMConfig(vocab_size=tiny.VOCABULARY, emb_dim=32, n_layers=2, n_heads=2, causal=True),
        "no usable KV cache",
    ),
    "RecurrentGemma": (
        RecurrentGemmaConfig(
            **_GROUPED | {"num_hidden_layers": 3}, lru_width=32, attention_window_size=12
        ),
        "RecurrentGemmaForCausalLM",
    ),
    "ProphetNet, whose decoder has more than one stream": (
        ProphetNetConfig(
            vocab_size=tiny.VOCABULARY,
            hidden_size=32,
            decoder_ffn_dim=48,
            num_decoder_layers=2,
            num_decoder_attention_heads=2,
        ),
        "changes its logits",
    ),
    "MiniMax, whose cache keeps the state of finished texts": (
        MiniMaxConfig(**_GROUPED, num_local_experts=2, block_size=16),
        "no usable KV cache",
    ),
    "CTRL": (
        CTRLConfig(**_GPT | {"dff": 48}),
        "overwrites its input vectors",
    ),
    "Llama, not causal": (LlamaConfig(**_GROUPED, is_causal=False), "bidirectional"),
    "EmbeddingGemma": (
        Gemma3TextConfig(
            **_GROUPED,
            head_dim=16,
            sliding_window=32,
            use_bidirectional_attention=True,
            layer_types=["sliding_attention", "full_attention"],
        ),
        "bidirectional",
    ),
    "BERT": (BertConfig(**_USUAL), "bidirectional"),
    "BERT for generation": (BertGenerationConfig(**_USUAL, pad_token_id=1), "bidirectional"),
    "RemBERT": (
        RemBertConfig(
            **_USUAL,
            input_embedding_size=16,
            output_embedding_size=48,
            is_decoder=True,
            pad_token_id=0,
        ),
        "trunk and head",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore")  # of transformers, which these models are not used with
def test_refused_when_loaded(kind, tmp_path):
    config, reason = REFUSED[kind]
    folder = tiny.save_model(tmp_path / "model", config)
    with pytest.raises(ModelError, match=reason) as caught:
        memcram.load_lm(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{folder}: ")


def test_small_weights_do_not_hide_a_bidirectional_model(tmp_path):
    """Small weights make the effect of a later token small, next to the largest logit."""
    config = tiny.llama_config(initializer_range=0.02, is_causal=False)
    with pytest.raises(ModelError, match="bidirectional"):
        memcram.load_lm(str(tiny.save_model(tmp_path / "model", config)), device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_sound_models_pass_in_every_dtype(tiny_folder, dtype):
    check_model(memcram.load_lm(str(tiny_folder), device="cpu", dtype=dtype))
    check_model(memcram.load_lm("pocket", device="cpu", dtype=dtype))


@pytest.fixture
def lm(tiny_folder):
    """A model of its own, to be tampered with."""
    return memcram.load_lm(str(tiny_folder), device="cpu")


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_head_that_multiplies_is_refused(lm, monkeypatch, size):
    """However small the logits are."""
    with torch.no_grad():
        lm.module.model.norm.weight.mul_(size)
    check_model(lm)
    head = lm.head
    monkeypatch.setattr(lm, "head", lambda hidden: 0.99 * head(hidden))
    with pytest.raises(ModelError, match="changes its logits"):
        check_model(lm)


def test_cache_that_forgets_is_refused(lm, monkeypatch):
    advance = lm.advance
    monkeypatch.setattr(lm, "advance", lambda embeds, cache: advance(embeds, None))
    with pytest.raises(ModelError, match="different logits when decoding with a cache"):
        check_model(lm)


def test_cache_that_drops_no_texts_is_refused(lm, monkeypatch):
    advance = lm.advance

    def hidden(embeds, cache):
        logits, found = advance(embeds, cache and cache.inner)
        return logits, SimpleNamespace(inner=found, reorder_cache=lambda rows: None)

    monkeypatch.setattr(lm, "advance", hidden)
    with pytest.raises(ModelError, match="no usable KV cache"):
        check_model(lm)


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [("float16", "use bfloat16 or float32"), ("float32", "the weights are damaged")],
)
def test_logits_that_are_not_finite(tiny_folder, dtype, advice):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype=dtype)
    with torch.no_grad():
        lm.module.model.norm.weight.fill_(float("inf"))
    with pytest.raises(ModelError, match=f"not finite in {dtype}; {advice}"):
        check_model(lm)


def test_threads_leave_the_flags_of_attention_as_they_were(tiny_lm):
    def flags():
        cuda = torch.backends.cuda
        return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()

    before = flags()
    entered, left = threading.Barrier(2, timeout=60), threading.Event()
    inside = []

    def first():
        with tiny_lm._modes():
            entered.wait()
            assert left.wait(60)
            inside.append(flags())

    thread = threading.Thread(target=first)
    thread.start()
    with tiny_lm._modes():
        entered.wait()
    left.set()
    thread.join()
    assert inside == [(False, False, True)]  # still set for the thread that is inside
    assert flags() == before
