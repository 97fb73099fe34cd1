"""Cram a text into a few input vectors of a frozen language model, and get it back exactly.

The whole public interface:

- `load_lm` loads a frozen causal LM: packaged (`pocket`), a local folder, or a hub id.
- `cram` optimises K input vectors until greedy decoding returns one text.
- `compress` and `decompress` do it for a text of any length, chunk by chunk, losing nothing;
  `Archive` is what lies between, and `verify` measures how safely it holds.
- `lm.generate` decodes vectors, `capacity_bound` says how much they could hold at most.
"""

from memcram.archive import Archive
from memcram.codec import compress, cram, decompress
from memcram.engine import Crammed, CramRequest, Engine
from memcram.errors import ArchiveError, MemcramError, ModelError, TextError, UsageError
from memcram.metrics.bound import capacity_bound
from memcram.models import FrozenLM, load_lm, packaged_models
from memcram.recipes import RECIPES, Recipe, get_recipe
from memcram.verify import Verification, verify

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
