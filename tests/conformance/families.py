"""One tiny random-weight model per family, of the real architecture: the conformance table's rows.

Widths and initial ranges are chosen so that a vector holds 8 tokens after some hundred steps.
"""

from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    Olmo2Config,
    OlmoConfig,
    OPTConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
)

from tiny import VOCABULARY

_IDS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
_USUAL = _IDS | {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.15,
}
_OPT = _IDS | {
    "hidden_size": 128,
    "word_embed_proj_dim": 128,
    "ffn_dim": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "init_std": 0.1,
}
_GEMMA = _USUAL | {
    "num_key_value_heads": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "initializer_range": 0.03,
}

FAMILIES = {
    "GPT-NeoX (Pythia)": GPTNeoXConfig(
        **_USUAL,
        use_parallel_residual=True,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000,
            "partial_rotary_factor": 0.25,
        },
        tie_word_embeddings=False,
    ),
    "OPT": OPTConfig(**_OPT),
    "OPT, narrow input": OPTConfig(
        **_OPT | {"word_embed_proj_dim": 96, "do_layer_norm_before": False}
    ),
    "OLMo": OlmoConfig(**_USUAL, clip_qkv=8.0, tie_word_embeddings=True),
    "OLMo-2": Olmo2Config(**_USUAL),
    "Llama, tied": LlamaConfig(**_USUAL, num_key_value_heads=4, tie_word_embeddings=True),
    "Llama, grouped, untied": LlamaConfig(
        **_USUAL, num_key_value_heads=2, tie_word_embeddings=False
    ),
    "SmolLM": LlamaConfig(
        **_USUAL | {"hidden_size": 144, "num_attention_heads": 9},
        num_key_value_heads=3,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
    ),
    "Mamba": MambaConfig(
        **_IDS | {"pad_token_id": 0},
        hidden_size=192,
        state_size=8,
        num_hidden_layers=2,
        initializer_range=0.2,
    ),
    "Qwen2": Qwen2Config(**_USUAL, num_key_value_heads=2, tie_word_embeddings=True),
    "Qwen3": Qwen3Config(**_USUAL, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True),
    "Gemma-2": Gemma2Config(
        # Sharp attention, as trained weights have it.
        **_GEMMA | {"query_pre_attn_scalar": 1, "initializer_range": 0.05},
        sliding_window=12,
        layer_types=["sliding_attention", "full_attention"],
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    ),
    "Gemma-3": Gemma3TextConfig(
        **_GEMMA, sliding_window=12, layer_types=["sliding_attention", "full_attention"]
    ),
    "Phi": PhiConfig(**(_USUAL | {"initializer_range": 0.2})),
    "GPT-2": GPT2Config(
        **_IDS,
        n_embd=128,
        n_layer=2,
        n_head=4,
        n_positions=128,
        initializer_range=0.15,
    ),
}
