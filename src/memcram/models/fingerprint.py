"""Fingerprint a model: one hash over everything that determines logits and tokens."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from memcram.errors import UsageError
from memcram.files import write_atomically

# Hashing takes about a second per gigabyte; small files are not worth an entry.
_REMEMBERED_FROM_BYTES = 32 * 2**20
_MEMORY = "weights.json"

# Keys that describe how a model was saved or is sampled from, not what it computes.
_INCIDENTAL_CONFIG_NAMES = (
    "_attn_implementation _name_or_path architectures bad_words_ids begin_suppress_tokens "
    "chunk_size_feed_forward decoder_start_token_id dtype eos_token_id finetuning_task "
    "forced_bos_token_id forced_eos_token_id id2label label2id output_attentions "
    "output_hidden_states pad_token_id prefix problem_type return_dict sep_token_id "
    "suppress_tokens task_specific_params tokenizer_class torch_dtype transformers_version "
    "use_cache"
)
_INCIDENTAL_CONFIG_KEYS = _INCIDENTAL_CONFIG_NAMES.split()
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")
_TOKENIZER_CONFIG_KEYS = (
    "add_prefix_space",
    "bos_token",
    "legacy",
    "sp_model_kwargs",
    "tokenizer_class",
)
# Padding and truncation are settings of whoever saved the file last.
_INCIDENTAL_TOKENIZER_KEYS = ("padding", "truncation")


def folder_fingerprint(folder: Path, weights: Sequence[str]) -> str:
    """Hash (SHA-256, hex) the weight files, the config that affects logits, and the tokenizer.

    Args:
        folder: a model folder of transformers.
        weights: names of the weight files that are loaded from it.
    """
    return _fingerprint({name: file_sha256(folder / name) for name in weights}, folder)


def module_fingerprint(module: Any, folder: Path) -> str:
    """Hash (SHA-256, hex) converted weights, config and tokenizer.

    Args:
        module: in float32; its tensors are hashed by name.
        folder: holds the converted config and tokenizer.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return _fingerprint(digest.hexdigest(), folder)


def _fingerprint(weights: dict[str, str] | str, folder: Path) -> str:
    config = _without(read_json(folder / "config.json"), _INCIDENTAL_CONFIG_KEYS)
    parts = {"weights": weights, "config": config, "tokenizer": _tokenizer_parts(folder)}
    return _json_sha256(parts)


def _json_sha256(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hash (SHA-256, hex) a file's bytes; hashes of large files are cached.

    A cached hash is used while the file's size, inode, modification time and status-change time
    stay the same. The last of these cannot be set back by `cp -p`, `touch` or `rsync --times`.
    """
    status = path.stat()
    if status.st_size < _REMEMBERED_FROM_BYTES:
        return _hash(path)
    key = str(path.resolve())
    seen = [status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns]
    memory = _read_memory()
    known = memory.get(key)
    if isinstance(known, dict) and known.get("seen") == seen:
        return str(known["sha256"])
    digest = _hash(path)
    _remember(memory | {key: {"seen": seen, "sha256": digest}})
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Return the cache folder, for data that can be recomputed."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "memcram"


def _read_memory() -> dict[str, Any]:
    try:
        memory = read_json(cache_folder() / _MEMORY)
    except (OSError, ValueError, RuntimeError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(memory: dict[str, Any]) -> None:
    # Without a writable cache the hash is computed again each time.
    with contextlib.suppress(OSError, UsageError, RuntimeError):
        path = cache_folder() / _MEMORY
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(memory, sort_keys=True).encode())


def _tokenizer_parts(folder: Path) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name in TOKENIZER_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if path.suffix == ".json":
            content = _without(read_json(path), _INCIDENTAL_TOKENIZER_KEYS)
            parts[name] = _json_sha256(content)
        else:
            parts[name] = file_sha256(path)
    config = folder / "tokenizer_config.json"
    if config.is_file():
        settings = read_json(config)
        parts["settings"] = {key: settings.get(key) for key in _TOKENIZER_CONFIG_KEYS}
    return parts


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def _without(content: Any, keys: Sequence[str]) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: value for key, value in content.items() if key not in keys}
