"""One hash over what decides logits and tokens, and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any

# Keys that say how a model was saved or is to be sampled, not what it computes.
_INCIDENTAL_CONFIG_KEYS = frozenset(
    {
        "_attn_implementation",
        "_name_or_path",
        "architectures",
        "bad_words_ids",
        "begin_suppress_tokens",
        "chunk_size_feed_forward",
        "decoder_start_token_id",
        "dtype",
        "eos_token_id",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "id2label",
        "label2id",
        "output_attentions",
        "output_hidden_states",
        "pad_token_id",
        "prefix",
        "problem_type",
        "return_dict",
        "sep_token_id",
        "suppress_tokens",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_TOKENIZER_CONFIG_KEYS = (
    "add_prefix_space",
    "bos_token",
    "legacy",
    "sp_model_kwargs",
    "tokenizer_class",
)
# Padding and truncation are settings of the last caller who saved the file.
_INCIDENTAL_TOKENIZER_KEYS = frozenset({"padding", "truncation"})


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) over the weight files, the config that affects logits, and the tokenizer."""
    parts = {
        "weights": {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))},
        "config": _without(_read_json(folder / "config.json"), _INCIDENTAL_CONFIG_KEYS),
        "tokenizer": _tokenizer_parts(folder),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer_parts(folder: Path) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name in _TOKENIZER_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix == ".json":
            content = _without(_read_json(path), _INCIDENTAL_TOKENIZER_KEYS)
            canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
            parts[name] = hashlib.sha256(canonical.encode()).hexdigest()
        else:
            parts[name] = file_sha256(path)
    config = folder / "tokenizer_config.json"
    if config.is_file():
        settings = _read_json(config)
        parts["settings"] = {key: settings.get(key) for key in _TOKENIZER_CONFIG_KEYS}
    return parts


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _without(content: Any, keys: frozenset[str]) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in keys}
