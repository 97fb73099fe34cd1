"""Load models from GGUF files, with the config and tokenizer that transformers converts."""

import atexit
import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memcram.errors import ModelError, UsageError
from memcram.files import is_file, is_folder, write_atomically
from memcram.models.fingerprint import cache_folder, file_sha256, module_fingerprint
from memcram.models.gguf_metadata import (
    check_all_loaded,
    check_complete,
    check_installed,
    read_gguf,
)

SUFFIX = ".gguf"
_CONFIG = "config.json"
_FINGERPRINT = "fingerprint"


@dataclass(frozen=True)
class GgufFormat:
    """A GGUF file, or a folder with exactly one and no safetensors weights.

    If the original config is available, it is used, because conversion from the file's metadata
    alone may drop settings.

    Attributes:
        config: folder with the original config.json; None: the model's folder, if the model is
            named as a folder and has one, or else the metadata of the file.
    """

    config: Path | None = None

    def with_config(self, path: Path, config: Path) -> "GgufFormat":
        """The same format with another folder of the original config.json.

        Raises:
            UsageError: the folder has none.
        """
        if not is_file(config / _CONFIG):
            raise UsageError(
                f"{str(config)!r} has no {_CONFIG}; name the folder of the original model's",
                argument="config",
                got=str(config),
            )
        return replace(self, config=config)

    def matches(self, path: Path) -> bool:
        """Whether the path is a GGUF file or a folder with GGUF files in place of weights."""
        return _is_gguf(path) or (is_folder(path) and bool(_files(path)) and not _has_weights(path))

    def check(self, path: Path, name: str, *, config_only: bool) -> None:
        """Refuse a damaged or unsupported file, and a folder with several.

        Raises:
            ModelError: says what to name or load instead.
        """
        if not self._cached(path).is_dir():
            read_gguf(_file(path))

    def folder(self, path: Path) -> Path:
        """The folder of the file."""
        return _file(path).parent

    def options(self, path: Path) -> dict[str, Any]:
        """The name of the file, and that its weights are dequantised."""
        return {"gguf_file": _file(path).name}

    def converted(self, path: Path) -> Path | None:
        """Cache folder of the file's content and the versions of the libraries that convert it."""
        return self._cached(path)

    def original_config(self, path: Path) -> Path | None:
        """The folder of the config.json that replaces the metadata, or None."""
        config = self._config(path)
        return None if config is None else config.parent

    def keep_converted(self, path: Path, config: Any, tokenizer: Any) -> None:
        """Check the config against the metadata, and write config and tokenizer into the cache."""
        check_complete(read_gguf(_file(path)), config)
        folder = self._cached(path)
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are dequantised
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            config.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():  # or else another process was faster
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def check_loaded(self, path: Path, module: Any) -> None:
        """Refuse a file with tensors that transformers left out."""
        if not (self._cached(path) / _FINGERPRINT).is_file():
            check_all_loaded(read_gguf(_file(path)), module)

    def fingerprint(self, path: Path, load: Callable[[], Any]) -> str:
        """SHA-256 (hex) over the dequantised tensors, the config and the tokenizer; cached."""
        folder = self._cached(path)
        known = folder / _FINGERPRINT
        if known.is_file():
            return known.read_text("ascii")
        found = module_fingerprint(load(), folder)
        with contextlib.suppress(UsageError):
            write_atomically(known, found.encode("ascii"))
        return found

    def earlier_fingerprint(self, path: Path) -> str | None:
        """No earlier version loaded GGUF files."""
        return None

    def _cached(self, path: Path) -> Path:
        check_installed()
        file, config = _file(path), self._config(path)
        packages = ("transformers", "tokenizers", "gguf")
        key = {
            "file": file_sha256(file),
            "config": None if config is None else file_sha256(config),
            "versions": {name: version(name) for name in packages},
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return _cache(cache_folder() / "gguf") / digest[:32]

    def _config(self, path: Path) -> Path | None:
        """The original config.json, or None."""
        config = (path if self.config is None else self.config) / _CONFIG
        return config if config.is_file() else None


GGUF = GgufFormat()


@functools.lru_cache
def _cache(wanted: Path) -> Path:
    """Return the cache folder, or a temporary folder of this process if it can't be written."""
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        own = Path(tempfile.mkdtemp(prefix="memcram-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        return own


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX and is_file(path)


def _files(folder: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # a folder that can't be read is reported later
        return sorted(path for path in folder.iterdir() if _is_gguf(path))
    return []


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def _file(path: Path) -> Path:
    """Return the GGUF file of a path.

    Raises:
        ModelError: the folder has several.
    """
    if path.is_file():
        return path
    found = _files(path)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ModelError(f"{str(path)!r} holds {len(found)} GGUF files; name one of {names}")
    return found[0]


def gguf_facts(path: Path, config: Path | None = None) -> dict[str, Any]:
    """Summarise the metadata of a GGUF model, as printed by `memcram models inspect`.

    Args:
        path: the file or its folder.
        config: as for `GgufFormat`.

    Raises:
        ModelError: see `read_gguf`.
    """
    file = read_gguf(_file(path))
    original = GgufFormat(config).original_config(path)
    return {
        "architecture": file.architecture,
        "quantisations": file.quantisations,
        "parameters": file.elements,
        "tokenizer_model": file.tokenizer.get("model"),
        "tokenizer_pre": file.tokenizer.get("pre"),
        "settings": file.settings,
        "config": "the metadata" if original is None else str(original / _CONFIG),
    }
