"""Build and try out a tiny random-weight model of every causal LM that transformers knows.

`tiny_config` starts from the defaults of an architecture's config class and shrinks the fields with
well-known names, so that every mechanism that the defaults switch on (experts, windows, state
spaces, caches shared by layers) stays. `OVERRIDES` holds what an architecture needs beyond that.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import memcram
import tiny
from memcram.archive.format import Archive
from memcram.errors import ModelError
from tiny import VOCABULARY

TEXT = "Rain on the pier."  # 17 bytes, 17 tokens
CHUNK_TOKENS = 9  # chunks of 9 and 8 tokens, so that a batch shrinks
UNLIMITED = 300  # positions tried where a model has no limit; the tiny ones have up to 128
MODEL_TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

# value -> names of fields that are set to it, where the default is a number
_BY_SIZE: tuple[tuple[int, str], ...] = (
    (VOCABULARY, "vocab_size decoder_vocab_size vocab_size_per_layer_input unpadded_vocab_size"),
    (
        128,
        "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions context_length",
    ),
    (
        64,
        "hidden_size d_model n_embd dim_model emb_dim embedding_dim embedding_size lru_width "
        "word_embed_proj_dim",
    ),
    (
        96,
        "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner dim_ff dff d_inner "
        "ffn_hidden_size feed_forward_size intermediate_size_mlp dense_intermediate_size",
    ),
    (
        32,
        "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size "
        "expert_ffn_hidden_size moe_shared_expert_intermediate_size",
    ),
    (24, "qk_head_dim"),
    (
        16,
        "head_dim v_head_dim kv_lora_rank q_lora_rank qk_nope_head_dim swa_head_dim kv_channels "
        "index_head_dim linear_key_head_dim linear_value_head_dim linear_head_dim o_lora_rank "
        "dim_head d_head attention_head_size mamba_chunk_size chunk_size mamba_d_state "
        "mamba_d_head mamba_head_dim "
        "hidden_size_per_layer_input ssm_state_size state_size",
    ),
    (
        8,
        "qk_rope_head_dim rotary_dim sliding_window sliding_window_size attention_window_size "
        "index_topk mamba_n_heads mamba_num_heads",
    ),
    (
        4,
        "num_attention_heads n_head n_heads num_heads decoder_attention_heads attention_heads "
        "encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads "
        "swa_num_attention_heads linear_num_value_heads linear_num_heads "
        "num_experts num_local_experts n_routed_experts moe_num_experts",
    ),
    (
        2,
        "num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads index_n_heads "
        "linear_num_key_heads num_experts_per_tok moe_topk moe_k moe_top_k",
    ),
    (1, "n_group topk_group"),
)
_SIZES = {name: size for size, names in _BY_SIZE for name in names.split()}
# Latent attention rotates a part of each head, and has as many keys as queries.
_LATENT_ATTENTION = {"head_dim": _SIZES["qk_rope_head_dim"], "num_key_value_heads": 4}
_LAYERS = {
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_encoder_layers",
    "num_decoder_layers",
    "num_blocks",
}
# Weights so large that different inputs give clearly different logits.
_SPREAD = {"initializer_range", "init_std", "init_method_std", "initializer_factor"}

_WINDOWED = ("sliding_attention", "full_attention")
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_FEW_EXPERTS = {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
}
_DOTS3 = {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16,
    "swa_head_dim": 24,
    "swa_qk_nope_head_dim": 16,
    "swa_v_head_dim": 16,
}
# It reads the keys and values of a larger model, and has none.
_DRAFTER = {
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_kv_shared_layers": 2,
    "num_hidden_layers": 2,
    "layer_types": list(_WINDOWED),
}
_LLAMA4 = {"moe_layers": [1]}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}

# model type -> settings of its config class; a dictionary holds those of a sub-config
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {"rope_parameters": dict.fromkeys(_WINDOWED, _ROPE)},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": _FEW_EXPERTS,
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {
            "adapter_in_dim": 64,
            "adapter_out_dim": 64,
            "mlp_layer_types": ["dense", "dense"],
        },
        "audio_config": {"adapter_input_size": 64, "adapter_out_dim": 64},
    },
    "dots3_note_text": _DOTS3,
    "falcon_h1": {"mamba_d_ssm": 128, "lm_head_multiplier": 0.1},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "layer_types": list(_WINDOWED) * 2,
        "intermediate_size": 96,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
    "gemma4_assistant": {"text_config": _DRAFTER},
    "gemma4_unified_assistant": {"text_config": _DRAFTER},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "num_experts": 4, "moe_topk": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"full_attn_idxs": [1]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama4": {"text_config": _LLAMA4},
    "llama4_text": _LLAMA4,
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [32, 32],
    },
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 96},
    "roc_bert": {"shape_vocab_size": 32, "pronunciation_vocab_size": 32},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "zamba": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
    },
    "zaya": {"num_experts_per_tok": 1},
}

# model type -> what it would need
NOT_BUILT = {"gemma3n": "its vision tower needs the package timm"}

# transformers fails to make these from their config, whatever the weights: drafters that share
# every layer's keys and values with another model, and decoders whose config is a sub-config.
CONFIG_ONLY = {"gemma4_assistant", "gemma4_unified_assistant", "musicgen", "musicgen_melody"}


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture.

    Attributes:
        status: `supported`, `refused` (when loaded, in one line), `not built` or `fails`.
        reason: the line; empty if supported.
        class_name: class that transformers loads.
    """

    status: str
    reason: str
    class_name: str


def try_out(model_type: str, folder: Path) -> Outcome:
    """Save a tiny model, load it, cram a short text, and decode the archive.

    With random weights and three steps nearly every token needs a correction; what is shown is that
    loading, the longest input, gradients, cached decoding and the archive work.
    """
    class_name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[model_type]
    if model_type in NOT_BUILT:
        return Outcome("not built", NOT_BUILT[model_type], class_name)
    save(model_type, folder)
    try:
        lm = memcram.load_lm(str(folder), device="cpu")
    except ModelError as error:
        reason = str(error).removeprefix(f"{folder}: ")
        return Outcome("fails" if "\n" in reason else "refused", reason, class_name)
    except Exception as error:  # noqa: BLE001 - whatever a foreign architecture raises
        return Outcome("fails", f"loading: {error!r}", class_name)
    try:
        longest = torch.zeros(1, lm.max_positions or UNLIMITED, dtype=torch.long)
        lm.hidden(lm.embed(longest))
        archive = memcram.compress(TEXT, lm, chunk_tokens=CHUNK_TOKENS, steps=3)
        restored = memcram.decompress(Archive.from_bytes(archive.to_bytes()), lm)
    except Exception as error:  # noqa: BLE001
        return Outcome("fails", f"after loading: {error!r}", class_name)
    if restored != TEXT.encode():
        return Outcome("fails", f"the archive decodes to {restored!r}", class_name)
    return Outcome("supported", "", class_name)


def save(model_type: str, folder: Path) -> None:
    """Write a tiny model of an architecture in transformers' format."""
    config = tiny_config(model_type)
    if model_type in CONFIG_ONLY:
        tiny.save_tokenizer(folder)
        save_file({}, folder / "model.safetensors")
    else:
        tiny.save_model(folder, config)
    # From a config with vision or audio parts, transformers makes and saves the text part.
    config.save_pretrained(folder)


def tiny_config(model_type: str) -> Any:
    """Config of an architecture with a width of 64 and one layer of each kind."""
    return _shrunk(CONFIG_MAPPING[model_type], OVERRIDES.get(model_type, {}))


def _shrunk(config_class: Any, overrides: dict[str, Any]) -> Any:
    """Config with small sizes; `overrides` hold a dictionary per sub-config."""
    default = _default_config(config_class, overrides)
    settings = _layers(default)
    for field in fields(config_class):
        name, value = field.name, _value(default, field.name)
        if name in config_class.sub_configs:
            if value is not None:
                settings[name] = _shrunk(type(value), overrides.get(name, {}))
        elif isinstance(value, int) and not isinstance(value, bool):
            if name in _LATENT_ATTENTION and hasattr(default, "qk_rope_head_dim"):
                settings[name] = _LATENT_ATTENTION[name]
            elif (
                name in _SIZES and value and field.default is not None
            ):  # None: derived from others
                settings[name] = _SIZES[name]
            elif name.endswith(("token_id", "token_index")):
                settings[name] = min(value, VOCABULARY - 1)
        elif name in _SPREAD and isinstance(value, float):
            settings[name] = 0.2
    given = {k: v for k, v in overrides.items() if k not in config_class.sub_configs}
    return config_class(**settings | given)


def _default_config(config_class: Any, overrides: dict[str, Any]) -> Any:
    try:
        return config_class()
    except StrictDataclassError:  # the defaults contradict one another
        return config_class(**overrides)


def _value(config: Any, name: str) -> Any:
    """Value of a field, also where it may differ from layer to layer."""
    return vars(config).get(config.attribute_map.get(name, name))


def _layers(default: Any) -> dict[str, Any]:
    """Number of layers, and lists with one entry per layer cut to one layer of each kind."""
    values = {field.name: _value(default, field.name) for field in fields(default)}
    settings: dict[str, Any] = {}
    for name in _LAYERS.intersection(values):
        lists = {
            key: value
            for key, value in values.items()
            if isinstance(value, list) and len({str(v) for v in value}) < len(value) == values[name]
        }
        kept = sorted({value.index(kind) for value in lists.values() for kind in value})
        if len(kept) < 2:
            kept = [0, 1]
        settings |= {key: [value[i] for i in kept] for key, value in lists.items()}
        settings[name] = len(kept)
    return settings
