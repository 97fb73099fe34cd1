"""Cram a text into a few input vectors of a frozen language model, and get it back exactly.

The public interface:

- `load_lm` loads a frozen causal LM: packaged (`pocket`), a local folder, or a hub id.
- `cram` optimises K input vectors until greedy decoding returns one text.
- `compress` and `decompress` do this for a text of any length, chunk by chunk, without loss;
  `Archive` is the file between them, `verify` measures how safely it decodes, and `plan` estimates
  its size and cost beforehand.
- `lm.generate` decodes vectors; `score` computes nats, margins and ranks of texts.
- `measure_horizons` measures how many tokens fit into K vectors, `capacity_bound` how many could.

Namespaces: `memcram.recipes` (how texts are crammed), `memcram.texts` (sources of texts),
`memcram.study` (grids of measurements), `memcram.metrics` (pure functions) and `memcram.export`
(formats of other programs). The names in their `__all__` are public; every other module is internal
and may change without notice.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memcram import export, metrics, recipes, study, texts
    from memcram.archive import Archive
    from memcram.compression.codec import compress, cram, decompress
    from memcram.compression.estimate import plan
    from memcram.compression.verify import Verification, verify
    from memcram.engine.batch import CramRequest
    from memcram.engine.loop import Engine
    from memcram.engine.result import Crammed
    from memcram.errors import ArchiveError, MemcramError, ModelError, TextError, UsageError
    from memcram.metrics import capacity_bound
    from memcram.models import FrozenLM, load_lm, packaged_models
    from memcram.models.scoring import score
    from memcram.recipes import RECIPES, Recipe, get_recipe
    from memcram.study import measure_horizons

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
    "__version__",
    "capacity_bound",
    "compress",
    "cram",
    "decompress",
    "export",
    "get_recipe",
    "load_lm",
    "measure_horizons",
    "metrics",
    "packaged_models",
    "plan",
    "recipes",
    "score",
    "study",
    "texts",
    "verify",
]

__version__ = version("memcram")
"""Version of the installed package."""


_HOMES = {
    "memcram.archive": ["Archive"],
    "memcram.compression.codec": ["compress", "cram", "decompress"],
    "memcram.compression.estimate": ["plan"],
    "memcram.compression.verify": ["Verification", "verify"],
    "memcram.engine.batch": ["CramRequest"],
    "memcram.engine.loop": ["Engine"],
    "memcram.engine.result": ["Crammed"],
    "memcram.errors": ["ArchiveError", "MemcramError", "ModelError", "TextError", "UsageError"],
    "memcram.metrics": ["capacity_bound"],
    "memcram.models": ["FrozenLM", "load_lm", "packaged_models"],
    "memcram.models.scoring": ["score"],
    "memcram.recipes": ["RECIPES", "Recipe", "get_recipe"],
    "memcram.study": ["measure_horizons"],
}
_NAMESPACES = ("export", "metrics", "recipes", "study", "texts")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `memcram --help` need not load torch."""
    if name in _NAMESPACES:
        return import_module(f"memcram.{name}")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'memcram' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
