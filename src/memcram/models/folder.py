"""Read model folders of transformers: config.json, safetensors weights and tokenizer files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from memcram.errors import ModelError, UsageError, first_line
from memcram.files import is_folder
from memcram.models.fingerprint import TOKENIZER_FILES, folder_fingerprint
from memcram.models.formats import ModelFormat

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"

# A Git LFS pointer is a text file of about 130 bytes that stands for the real file.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class FolderFormat(ModelFormat):
    """A local folder as written by `save_pretrained`; transformers reports missing weights."""

    def matches(self, path: Path) -> bool:
        """Whether the path is a folder."""
        return is_folder(path)

    def with_config(self, path: Path, config: Path) -> "FolderFormat":
        """Refuse another config: nothing is converted.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"got {str(config)!r}, but {str(path)!r} is not a GGUF model: it has its own {CONFIG}",
            argument="config",
            got=str(config),
        )

    def check(self, path: Path, name: str, *, config_only: bool) -> None:
        """Refuse a folder without config or safetensors weights, and one with an adapter.

        Raises:
            ModelError: says what is missing and what to do.
        """
        if (path / ADAPTER).is_file():
            raise ModelError(_adapter(path, name))
        if not (path / CONFIG).is_file():
            raise ModelError(
                f"{name}: the folder has no {CONFIG}; name a model folder of transformers"
            )
        tokenizer = ["tokenizer_config.json", *TOKENIZER_FILES]
        _refuse_pointers(path, name, [CONFIG, *tokenizer])
        for file in [CONFIG, *tokenizer]:
            if file.endswith(".json"):
                _refuse_damaged_json(path / file, name)
        if config_only:
            return
        _refuse_damaged_json(path / WEIGHTS_INDEX, name)
        weights = weight_files(path)
        if not weights:
            raise ModelError(_no_weights(path, name))
        _refuse_pointers(path, name, weights)
        _refuse_damaged_weights(path, name, weights)

    def fingerprint(self, path: Path, load: Callable[[], Any]) -> str:
        """SHA-256 (hex) over the weight files that are loaded, the config and the tokenizer."""
        return folder_fingerprint(path, weight_files(path))

    def earlier_fingerprint(self, path: Path) -> str | None:
        """Fingerprint as in earlier versions: of every safetensors file, loaded or not."""
        every = sorted(file.name for file in path.glob("*.safetensors"))
        return None if every == weight_files(path) else folder_fingerprint(path, every)


FOLDER = FolderFormat()


def weight_files(folder: Path) -> list[str]:
    """List the weight files that transformers loads from a folder, sorted.

    These are `model.safetensors`, or else the shards that its index names; a config may name
    another file or index (`transformers_weights`).
    """
    named = _read_object(folder / CONFIG).get("transformers_weights")
    if not isinstance(named, str):
        named = WEIGHTS if (folder / WEIGHTS).is_file() else WEIGHTS_INDEX
    if not named.endswith(".index.json"):
        return [named]
    shards = _read_object(folder / named).get("weight_map")
    return sorted({str(file) for file in shards.values()}) if isinstance(shards, dict) else []


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file; empty if it is not an object, which transformers reports."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _refuse_damaged_json(path: Path, name: str) -> None:
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{name}: {path.name} is truncated or damaged ({error}); get it again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{name}: {path.name} is not a JSON object; get it again")


def _refuse_damaged_weights(folder: Path, name: str, files: list[str]) -> None:
    """Refuse files whose header is not that of their content, as after a broken-off download."""
    for file in files:
        path = folder / file
        if path.is_file() and path.suffix == ".safetensors":
            try:
                with safe_open(path, "numpy"):
                    pass
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"{name}: {file} is truncated or damaged ({first_line(error)}); get it again"
                ) from error


def _refuse_pointers(folder: Path, name: str, files: list[str]) -> None:
    for file in files:
        path = folder / file
        if path.is_file():
            with path.open("rb") as opened:
                start = opened.read(len(_LFS_POINTER))
            if start == _LFS_POINTER:
                raise ModelError(
                    f"{name}: {file} is a Git LFS pointer, not the file itself; run `git lfs pull` "
                    "in the folder"
                )


def _adapter(path: Path, name: str) -> str:
    if not (path / CONFIG).is_file():
        base = _read_object(path / ADAPTER).get("base_model_name_or_path")
        of = f" for {base}" if isinstance(base, str) else ""
        return (
            f"{name}: the folder holds a PEFT adapter{of}, not a model; merge the adapter into its "
            "base model (merge_and_unload, then save_pretrained) and name that folder"
        )
    return (
        f"{name}: the folder holds a PEFT adapter ({ADAPTER}) next to the model; merge the adapter "
        "into the weights (merge_and_unload, then save_pretrained), or move its files elsewhere"
    )


def _no_weights(path: Path, name: str) -> str:
    if any(path.glob("pytorch_model*.bin")):
        return (
            f"{name}: only pickled weights (.bin), which memcram never opens; convert a copy you "
            'trust: python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{path}').save_pretrained('{path}-safetensors')\""
        )
    return f"{name}: the folder has no weights ({WEIGHTS} or {WEIGHTS_INDEX})"
