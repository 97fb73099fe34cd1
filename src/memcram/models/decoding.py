"""Decode `[mem]` greedily and free-running, in batches of chunks, with a KV cache.

Exactness is decided here: a text counts as exact only if `greedy` returns it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

# Cached positions one batch may hold; a chunk longer than this is decoded alone.
_CPU_BATCH_TOKENS = 4096
_ACCELERATOR_BATCH_TOKENS = 65_536


class CachedLM(Protocol):
    """Interface of a model, as far as decoding uses it."""

    prefix: Tensor
    device: torch.device
    dtype: torch.dtype

    def embed(self, ids: Tensor) -> Tensor:
        """Return the input vectors of ids."""

    def advance(self, embeds: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Return the logits after the last position, and the new cache."""


@dataclass(frozen=True)
class Decoded:
    """Result of decoding one chunk.

    Attributes:
        ids: (n,) the tokens, with the replacements of `forced`.
        predicted: (n,) the argmax at each position, given the tokens of `ids` before it.
        margins: (n,) logit of `ids` minus the best other logit.
    """

    ids: Tensor
    predicted: Tensor
    margins: Tensor


def greedy(
    lm: CachedLM,
    mems: Sequence[Tensor],
    n_tokens: Sequence[int],
    forced: Sequence[Tensor] | None = None,
    batch_tokens: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """Decode `n_tokens[i]` tokens from `mems[i]`, feeding back each decoded token.

    Args:
        lm: the model.
        mems: per chunk (K, input_width); K may differ between chunks.
        n_tokens: tokens per chunk.
        forced: per chunk (n,) token ids that replace the prediction; −1 keeps the prediction.
        batch_tokens: cached positions per batch; None: a device-dependent default.
        on_chunk: called after each batch with the number of its chunks.
    """
    results: list[Decoded | None] = [None] * len(mems)
    usual = _CPU_BATCH_TOKENS if lm.device.type == "cpu" else _ACCELERATOR_BATCH_TOKENS
    for group in _groups([len(m) for m in mems], n_tokens, batch_tokens or usual):
        force = None if forced is None else [forced[i] for i in group]
        done = _greedy_batch(lm, [mems[i] for i in group], [n_tokens[i] for i in group], force)
        for i, decoded in zip(group, done, strict=True):
            results[i] = decoded
        if on_chunk is not None:
            on_chunk(len(group))
    return [decoded for decoded in results if decoded is not None]


def _groups(vectors: Sequence[int], n_tokens: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield groups of chunks with the same K, longest first, so that a batch shrinks at its end."""
    order = sorted(range(len(vectors)), key=lambda i: (vectors[i], -n_tokens[i], i))
    group: list[int] = []
    for i in order:
        longest = vectors[i] + n_tokens[group[0]] if group else 0
        if group and (vectors[i] != vectors[group[0]] or longest * (len(group) + 1) > budget):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def keep_first(texts: int, embeds: Tensor, cache: Any) -> Tensor:
    """Drop all but the first texts of a batch from a cache and from the next inputs.

    A cache that has no such operation (xLSTM's) keeps all texts, as do the inputs.

    Returns:
        the next inputs (batch, position, input_width).
    """
    if not hasattr(cache, "reorder_cache"):
        return embeds
    cache.reorder_cache(torch.arange(texts, device=embeds.device))
    return embeds[:texts]


def _greedy_batch(
    lm: CachedLM, mems: list[Tensor], n_tokens: list[int], forced: list[Tensor] | None
) -> list[Decoded]:
    """Decode one batch of equal K, longest first; nothing leaves the device inside the loop."""
    longest = n_tokens[0]
    mem = torch.stack(list(mems)).to(lm.device, lm.dtype)
    embeds = torch.cat([mem, lm.prefix.expand(len(mem), *lm.prefix.shape)], dim=1)  # (B, K+p, W)
    force = torch.full((len(mem), longest), -1, dtype=torch.long)
    for row, tokens in enumerate(forced or []):
        force[row, : len(tokens)] = tokens
    force = force.to(lm.device)
    shape = (len(mem), longest)
    ids = torch.empty(shape, dtype=torch.long, device=lm.device)
    predicted = torch.empty_like(ids)
    exact = torch.float64 if lm.dtype == torch.float64 else torch.float32
    margins = torch.empty(shape, dtype=exact, device=lm.device)
    cache: Any = None
    for position in range(longest):
        active = sum(n > position for n in n_tokens)
        if 2 * active <= len(embeds):  # halving keeps copies of the cache rare
            embeds = keep_first(active, embeds, cache)
        logits, cache = lm.advance(embeds, cache)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        values, best = logits.topk(2, dim=-1)
        rows = len(logits)
        wanted = force[:rows, position]
        token = torch.where(wanted >= 0, wanted, best[:, 0])
        chosen = logits.gather(-1, token[:, None])[:, 0]
        other = torch.where(token == best[:, 0], values[:, 1], values[:, 0])
        ids[:rows, position] = token
        predicted[:rows, position] = best[:, 0]
        margins[:rows, position] = chosen - other
        embeds = lm.embed(token[:, None])
    everything = zip(ids.cpu(), predicted.cpu(), margins.cpu(), n_tokens, strict=True)
    return [Decoded(i[:n].clone(), p[:n].clone(), m[:n].clone()) for i, p, m, n in everything]
