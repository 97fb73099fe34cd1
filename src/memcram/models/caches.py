"""Rearrange the decoding caches of transformers: keep rows, drop columns, pad on the left."""

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from memcram.errors import MemcramError
from memcram.models.memory import is_out_of_memory

_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
# Maximum difference of logits due to rounding, relative to the largest one.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2


class CachedLM(Protocol):
    """Interface of a model, as far as decoding uses it."""

    prefix: Tensor
    device: torch.device
    dtype: torch.dtype

    @property
    def takes_padding(self) -> bool:
        """Whether texts that started at different times may share a cache."""

    def embed(self, ids: Tensor) -> Tensor:
        """Return the input vectors of ids."""

    def advance(
        self, embeds: Tensor, cache: Any, first: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return the logits after the last position, and the new cache."""


def keep_rows(cache: Any, rows: Tensor) -> bool:
    """Keep these rows of a cache, in this order; a row may be repeated.

    Args:
        cache: of B rows.
        rows: (B',) indices.

    Returns:
        whether the cache has such an operation; xLSTM's does not, and stays as it is.
    """
    if not hasattr(cache, "reorder_cache"):
        return False
    cache.reorder_cache(rows)
    return True


def drop_columns(cache: Any, n: int) -> None:
    """Forget the first n positions of all rows of a cache of keys and values."""
    for layer in cache.layers:
        if not layer.is_initialized:  # a layer that shares those of another
            continue
        left = layer.get_seq_length() - n
        # A sliding window may have dropped them already.
        start = max(0, layer.keys.shape[-2] - left)
        layer.keys, layer.values = layer.keys[..., start:, :], layer.values[..., start:, :]
        if isinstance(layer, DynamicSlidingWindowLayer):
            layer.cumulative_length = left


def position_bytes(lm: CachedLM) -> int:
    """Bytes of keys and values per cached position, measured; 0 if states have a fixed size."""
    _, cache = lm.advance(lm.embed(torch.zeros(1, 1, dtype=torch.long)), None)
    layers = getattr(cache, "layers", [])
    tensors = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return sum(one.nbytes for one in tensors if one is not None)


def takes_padding(lm: CachedLM) -> bool:
    """Whether texts that started at different times may share a cache of this model.

    Columns before a text are masked, and later dropped; its positions count from its own start.
    This must give the logits that it has alone, which is tried here: a text of three positions and
    one of two end together. Recurrent states and other special caches are never shared.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 4, lm.prefix.shape[-1], generator=generator)
    size = lm.embed(torch.zeros(1, dtype=torch.long)).float().std()
    embeds = (noise.to(lm.device) * size).to(lm.dtype)
    first = torch.tensor([1, 1], device=lm.device)
    later = torch.tensor([1, 2], device=lm.device)
    try:
        _, cache = lm.advance(embeds[:1, 1:3], None)
        if any(type(layer) not in _PLAIN for layer in getattr(cache, "layers", [None])):
            return False
        longer, _ = lm.advance(embeds[:1, 3:], cache)
        _, cache = lm.advance(embeds[1:, 2:3], None)
        shorter, _ = lm.advance(embeds[1:, 3:], cache)
        _, cache = lm.advance(embeds[:, :1], None)
        _, cache = lm.advance(embeds[:, 1:2], cache, first)
        _, cache = lm.advance(embeds[:, 2:3], cache, later)
        drop_columns(cache, 1)
        together, _ = lm.advance(embeds[:, 3:], cache, later - 1)
    except MemcramError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False
    alone = torch.cat([longer, shorter]).float()
    allowed = _TOLERANCE if lm.dtype.itemsize >= 4 else _HALF_TOLERANCE
    return bool((together.float() - alone).abs().max() <= allowed * alone.abs().max())
