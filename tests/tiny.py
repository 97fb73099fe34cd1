"""Tiny random-weight models and awkward tokenizers, built here so that nothing is downloaded."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

VOCABULARY = 257  # the 256 bytes, and BOS


def byte_tokenizer(*, lower_and_strip=False, prepend_space=False):
    """Return a tokenizer with one token per byte; without options it round-trips any text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0} | {symbol: i + 1 for i, symbol in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=prepend_space, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()
    if lower_and_strip:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()])
    return tokenizer


def llama_config(**changes):
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
        "initializer_range": 0.3,
    }
    return LlamaConfig(**(settings | changes))


def opt_config(**changes):
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "word_embed_proj_dim": 24,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "do_layer_norm_before": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "init_std": 0.3,
    }
    return OPTConfig(**(settings | changes))


def save_model(folder: Path, config, tokenizer=None, seed=0) -> Path:
    """Write a random-weight model with a tokenizer in transformers' format."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    save_tokenizer(folder, tokenizer)
    return folder


def save_tokenizer(folder: Path, tokenizer=None) -> None:
    """Write the byte tokenizer, or another one, in transformers' format."""
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer or byte_tokenizer(), bos_token="<s>", eos_token="<s>"
    ).save_pretrained(folder)
