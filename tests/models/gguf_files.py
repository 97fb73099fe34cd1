"""Tiny GGUF files of a Llama with random weights, written by the gguf package."""

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
    config = module.config
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
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(TOKENS))
    for key, value in (settings or {}).items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32
        add(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(False)
    for name, tensor in (_tensors(module) | (tensors or {})).items():
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
