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
`memcram.study` (grids of measurements) and `memcram.metrics` (pure functions). The names in their
`__all__` are public; every other module is internal and may change without notice.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memcram import metrics, recipes, study, texts
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


def lazy_attributes(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__`, which imports each name when it is first used.

    This keeps `memcram --help` from waiting for torch.

    Args:
        package: dotted name of the package.
        homes: dotted name of the module that defines each name; a name of a module itself is
            mapped to that module.
    """

    def getattribute(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(home)
        return module if home == f"{package}.{name}" else getattr(module, name)

    return getattribute


__getattr__ = lazy_attributes(
    __name__,
    {
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
        "capacity_bound": "memcram.metrics",
        "compress": "memcram.compression.codec",
        "cram": "memcram.compression.codec",
        "decompress": "memcram.compression.codec",
        "get_recipe": "memcram.recipes",
        "load_lm": "memcram.models",
        "measure_horizons": "memcram.study",
        "metrics": "memcram.metrics",
        "packaged_models": "memcram.models",
        "plan": "memcram.compression.estimate",
        "recipes": "memcram.recipes",
        "score": "memcram.models.scoring",
        "study": "memcram.study",
        "texts": "memcram.texts",
        "verify": "memcram.compression.verify",
    },
)


def __dir__() -> list[str]:
    return __all__
