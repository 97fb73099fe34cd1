"""Cram a text into a few input vectors of a frozen language model, and get it back exactly.

The whole public interface:

- `load_lm` loads a frozen causal LM: packaged (`pocket`), a local folder, or a hub id.
- `cram` optimises K input vectors until greedy decoding returns one text.
- `compress` and `decompress` do it for a text of any length, chunk by chunk, losing nothing;
  `Archive` is what lies between, and `verify` measures how safely it holds.
- `lm.generate` decodes vectors, `capacity_bound` says how much they could hold at most.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memcram.archive import Archive
    from memcram.compression.codec import compress, cram, decompress
    from memcram.compression.verify import Verification, verify
    from memcram.engine.batch import CramRequest
    from memcram.engine.loop import Engine
    from memcram.engine.result import Crammed
    from memcram.errors import ArchiveError, MemcramError, ModelError, TextError, UsageError
    from memcram.metrics.bound import capacity_bound
    from memcram.models import FrozenLM, load_lm, packaged_models
    from memcram.recipes.catalogue import RECIPES, get_recipe
    from memcram.recipes.recipe import Recipe

# Imported when first asked for, so that `memcram --help` does not wait for torch.
_HOMES = {
    "Archive": "memcram.archive",
    "ArchiveError": "memcram.errors",
    "CramRequest": "memcram.engine.batch",
    "Crammed": "memcram.engine.result",
    "Engine": "memcram.engine.loop",
    "FrozenLM": "memcram.models",
    "MemcramError": "memcram.errors",
    "ModelError": "memcram.errors",
    "RECIPES": "memcram.recipes",
    "Recipe": "memcram.recipes",
    "TextError": "memcram.errors",
    "UsageError": "memcram.errors",
    "Verification": "memcram.compression.verify",
    "capacity_bound": "memcram.metrics.bound",
    "compress": "memcram.compression.codec",
    "cram": "memcram.compression.codec",
    "decompress": "memcram.compression.codec",
    "get_recipe": "memcram.recipes",
    "load_lm": "memcram.models",
    "packaged_models": "memcram.models",
    "verify": "memcram.compression.verify",
}

__all__ = [
    "RECIPES",
    "Archive",
    "ArchiveError",
    "CramRequest",
    "Crammed",
    "Engine",
    "FrozenLM",
    "MemcramError",
    "ModelError",
    "Recipe",
    "TextError",
    "UsageError",
    "Verification",
    "capacity_bound",
    "compress",
    "cram",
    "decompress",
    "get_recipe",
    "load_lm",
    "packaged_models",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'memcram' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
