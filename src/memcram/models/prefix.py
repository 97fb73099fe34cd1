"""Read a text after K trained positions of keys and values, in place of K input vectors.

Prefix tuning (Li and Liang, ACL 2021) trains what attention reads at some positions in every layer.
`PrefixLM` has the interface of a frozen LM with input vectors of that width, so the engine,
decoding and scoring treat a prefix as they treat `[mem]`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from memcram.errors import MemcramError, ModelError
from memcram.models.frozen_lm import FrozenLM
from memcram.models.memory import is_out_of_memory

_PLAIN = (DynamicLayer, DynamicSlidingWindowLayer)
# Tokens whose keys and values give the scales; tokens after the prefix when the model is tried, and
# the maximum difference of their states due to rounding, relative to the largest one.
_PROBE_TOKENS, _TRIED_TOKENS = 32, 3
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 5e-2


@dataclass(frozen=True)
class _Part:
    """Keys or values of one layer in a prefix position.

    Attributes:
        layer: index in the cache.
        heads, width: of keys or values in the cache.
        scale: power of two that the trained coordinates are multiplied with.
    """

    layer: int
    heads: int
    width: int
    scale: float


class _PrefixCache(DynamicCache):  # type: ignore[misc]
    """A decoding cache that replaces the first positions fed to each layer by a prefix.

    Args:
        config: of the model.
        prefix: by layer, keys and values (batch, heads, K, head width).
    """

    def __init__(self, config: Any, prefix: dict[int, list[Tensor]]) -> None:
        super().__init__(config=config)
        self._prefix = prefix

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Store keys and values of new positions, and return those of all positions."""
        states = [key_states, value_states]
        if layer_idx in self._prefix:
            given = self._prefix.pop(layer_idx)
            k = given[0].shape[-2]
            states = [
                torch.cat([first.to(own.dtype), own[..., k:, :]], dim=-2)
                for first, own in zip(given, states, strict=True)
            ]
        found: tuple[Tensor, Tensor] = super().update(*states, layer_idx, *args, **options)
        return found


class PrefixLM(FrozenLM):
    """A frozen LM that reads given keys and values at its first K positions.

    The input vector of such a position holds the keys and the values of all heads, layer by layer,
    as the decoding cache stores them (after rotary embedding), each divided by a power of two that
    is close to their root mean square in ordinary text. Input vectors of later positions are those
    of the model, padded with zeros.

    A prefix has no hidden state that could predict t₁. A fixed token between prefix and text does:
    BOS, or token 0 of a model without one.

    Args:
        lm: the model.
        vectors: K.

    Attributes:
        vectors: K.

    Raises:
        ModelError: the model's cache has anything but keys and values, or is read in another way.
    """

    def __init__(
        self, lm: FrozenLM, vectors: int = 1, parts: tuple[_Part, ...] | None = None
    ) -> None:
        vars(self).update(vars(lm))
        self._lm, self.vectors = lm, vectors
        self._cached = parts or tuple(_parts_of(lm))
        self._scale = torch.cat(
            [torch.full((one.heads * one.width,), one.scale) for one in self._cached]
        ).to(self.device, self.dtype)
        self.input_width, self.embedding_std = len(self._scale), 1.0
        if self.input_width < lm.input_width:
            raise _refused(lm, "narrower keys and values than input vectors")
        self.layout = "mem+bos"
        self.prefix = self.embed(torch.tensor([self.bos_id or 0]))
        if parts is None:
            _check(self)

    def in_dtype(self, dtype: torch.dtype) -> "FrozenLM":
        """The same prefix before the model with weights of another dtype."""
        lm = self._lm.in_dtype(dtype)
        return self if lm is self._lm else PrefixLM(lm, self.vectors, self._cached)

    @property
    def takes_padding(self) -> bool:
        """False: the K positions of a prefix are read at once, at the beginning of a cache."""
        return False

    def embed(self, ids: Tensor) -> Tensor:
        """Embed `ids` (...) to input vectors (..., input_width)."""
        vectors = super().embed(ids)
        return pad(vectors, (0, self.input_width - vectors.shape[-1]))

    def hidden(self, embeds: Tensor) -> Tensor:
        """Run the trunk: `embeds` (batch, position, input_width) to states (batch, position, d).

        The states of the first K positions mean nothing; gradients reach the prefix alone.
        """
        inputs, cache = self._read(embeds)
        with self._modes():
            output = self._parts.trunk(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
        states: Tensor = output.last_hidden_state
        return states

    def advance(
        self, embeds: Tensor, cache: Any, first: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Feed `embeds` (batch, position, input_width); the first call begins with the prefix."""
        if cache is None:
            embeds, cache = self._read(embeds)
        return super().advance(embeds[..., : self._lm.input_width], cache, first)

    def keys_and_values(self, ids: Tensor) -> Tensor:
        """Prefix positions (n, input_width) with the keys and values of a text `ids` (n,)."""
        layers = _cache_of(self._lm, ids).layers
        pieces = [
            piece[0].transpose(0, 1).flatten(1)
            for at in dict.fromkeys(one.layer for one in self._cached)
            for piece in (layers[at].keys, layers[at].values)
        ]
        return torch.cat(pieces, dim=1) / self._scale

    def _read(self, embeds: Tensor) -> tuple[Tensor, _PrefixCache]:
        """Split input vectors in those of the model (batch, position, d) and a cache.

        The prefix positions are fed too, as BOS, and their keys and values replaced: so lengths
        are whole blocks (docs/decisions/003-batch-independence.md), and each token has the position
        that it has after K input vectors.
        """
        k = min(self.vectors, embeds.shape[1])
        scaled = embeds[:, :k] * self._scale
        prefix: dict[int, list[Tensor]] = {}
        sizes = [one.heads * one.width for one in self._cached]
        for one, piece in zip(self._cached, scaled.split(sizes, dim=-1), strict=True):
            by_head = piece.unflatten(-1, (one.heads, one.width)).transpose(1, 2)
            prefix.setdefault(one.layer, []).append(by_head)
        later = embeds[:, k:].detach()
        inputs = torch.cat([self.prefix.expand(len(embeds), k, -1), later], dim=1)
        config = self.module.config.get_text_config()
        return inputs[..., : self._lm.input_width], _PrefixCache(config, prefix)


def _cache_of(lm: FrozenLM, ids: Tensor) -> Any:
    """Decoding cache of a model after the tokens `ids` (n,)."""
    return lm.advance(lm.embed(ids)[None], None)[1]


def _parts_of(lm: FrozenLM) -> Iterator[_Part]:
    """Measure what the cache of a model holds per position: keys and values of each layer.

    Raises:
        ModelError: it holds something else.
    """
    count = min(_PROBE_TOKENS, lm.max_positions or _PROBE_TOKENS)
    ids = torch.arange(count) * lm.embedding_rows // count
    layers = getattr(_cache_of(lm, ids), "layers", [])
    if not layers or any(type(layer) not in _PLAIN for layer in layers):
        raise _refused(lm, "a cache with more than keys and values")
    for i, layer in enumerate(layers):
        # A layer without its own keys and values shares those of another.
        for states in (layer.keys, layer.values) if layer.is_initialized else ():
            # Without the first position, whose keys and values are of unusual size.
            size = states[:, :, 1:].float().square().mean().sqrt().clamp(min=1e-6)
            scale = 2.0 ** size.log2().round().item()
            yield _Part(i, states.shape[1], states.shape[3], scale)


@torch.no_grad()
def _check(lm: PrefixLM) -> None:
    """Try whether a prefix with the keys and values of a text is read as that text is.

    Raises:
        ModelError: it is not.
    """
    k = lm.vectors
    ids = torch.arange(k + _TRIED_TOKENS) * lm.embedding_rows // (k + _TRIED_TOKENS)
    allowed = _TOLERANCE if lm.dtype.itemsize >= 4 and lm.autocast is None else _HALF_TOLERANCE
    try:
        whole = lm._lm.hidden(lm._lm.embed(ids)[None])[:, k:]
        embeds = torch.cat([lm.keys_and_values(ids[:k]), lm.embed(ids[k:])])[None]
        _, cache = lm.advance(embeds[:, : k + 1], None)
        last, _ = lm.advance(embeds[:, k + 1 :], cache)
        pairs = [(lm.hidden(embeds)[:, k:], whole), (last, lm.head(whole[:, -1]))]
    except MemcramError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _refused(lm, "a cache that takes no prefix") from error
    if any((a - b).abs().max() > allowed * b.abs().max() for a, b in pairs):
        raise _refused(lm, "layers that read more than keys and values")


def _refused(lm: FrozenLM, problem: str) -> ModelError:
    kind = type(lm.module).__name__
    return ModelError(
        f"{lm.identity.id}: a prefix of keys and values is not possible for {kind}: "
        f"it has {problem}"
    )
