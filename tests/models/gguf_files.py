"""Tiny GGUF files with random weights, written by the gguf package."""

from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM

import tiny

BOS, END = "<|endoftext|>", "<|im_end|>"
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = [BOS, END, *ALPHABET, "Ġt", "he", "Ġthe"]
MERGES = ["Ġ t", "h e", "Ġt he"]

# llama.cpp's name of each tensor of a layer.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_LAYER = _LAYER | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attn.q_norm": "attn_q_norm",  # Gemma-3 only
    "self_attn.k_norm": "attn_k_norm",
}


def model(seed: int = 0) -> Any:
    """The model that the file holds."""
    torch.manual_seed(seed)
    config = tiny.llama_config(vocab_size=len(TOKENS), tie_word_embeddings=False)
    return AutoModelForCausalLM.from_config(config).eval()


def write(
    path: Path,
    *,
    architecture: str = "llama",
    settings: dict[str, float | str] | None = None,
    tensors: dict[str, torch.Tensor] | None = None,
    seed: int = 0,
) -> Path:
    """Write the model as a GGUF file in float32.

    Args:
        path: of the file.
        architecture: llama.cpp's name of the model type.
        settings: further values, by key without the architecture.
        tensors: further tensors by name.
        seed: of the weights.
    """
    module = model(seed)
    writer = _writer(path, architecture, module.config, TOKENS)
    writer.add_rope_freq_base(module.config.rope_parameters["rope_theta"])
    for key, value in (settings or {}).items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(f"{architecture}.{key}", value)
    return _write_tensors(writer, path, _tensors(module) | (tensors or {}))


def write_gemma(path: Path, module: Any, architecture: str) -> Path:
    """Write a Gemma-2 or Gemma-3 of transformers as a GGUF file, for llama.cpp alone.

    Its tokens have other texts than those of the model's tokenizer.
    """
    config = module.config
    tokens = [BOS, END, *(f"t{i}" for i in range(config.vocab_size - 2))]
    writer = _writer(path, architecture, config, tokens)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_sliding_window(config.sliding_window)
    if architecture == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    state = module.state_dict()
    found = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"] + 1,
    }
    for i in range(config.num_hidden_layers):
        for name, short in _GEMMA_LAYER.items():
            weight = state.get(f"model.layers.{i}.{name}.weight")
            if weight is not None:  # Gemma's norms multiply by 1 + weight
                found[f"blk.{i}.{short}.weight"] = weight + (weight.dim() == 1)
    return _write_tensors(writer, path, found)


def _writer(path: Path, architecture: str, config: Any, tokens: list[str]) -> Any:
    """A writer with the settings and the tokenizer that all architectures have."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("Tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    return writer


def _write_tensors(writer: Any, path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.detach().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(module: Any) -> dict[str, torch.Tensor]:
    state = module.state_dict()
    heads = module.config.num_attention_heads
    found = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
        "output.weight": state["lm_head.weight"],
    }
    for i in range(module.config.num_hidden_layers):
        for name, short in _LAYER.items():
            weight = state[f"model.layers.{i}.{name}.weight"]
            if short in ("attn_q", "attn_k"):  # llama.cpp pairs the rotary halves
                rows = weight.reshape(heads, 2, -1, weight.shape[1])
                weight = rows.swapaxes(1, 2).reshape(weight.shape)
            found[f"blk.{i}.{short}.weight"] = weight
    return found
