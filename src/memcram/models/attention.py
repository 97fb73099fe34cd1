"""Measure the attention to the first input positions, and cut it in chosen layers.

Attention weights exist only in the plain implementation that transformers calls `eager`, so the
model runs in it here. Attention is cut by the mask that each decoder layer is given.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from memcram.errors import ModelError, first_line
from memcram.models.families import decoder_layers, split
from memcram.models.frozen_lm import FrozenLM
from memcram.models.memory import is_out_of_memory

# Positions of one forward pass; eager attention keeps all weights of a layer in memory.
_POSITIONS_AT_ONCE = 4096
# Changes due to rounding, relative to the largest state.
_TOLERANCE, _HALF_TOLERANCE = 1e-4, 5e-2


def check_attention(lm: FrozenLM) -> None:
    """Refuse a model whose attention to the first positions can't be measured and cut.

    With all layers cut, the states of later positions must not depend on the first one. This finds
    families that mix positions otherwise, or that compute their masks inside the layers.

    Raises:
        ModelError: the model is recurrent, gives no attention weights, or can't be cut.
    """
    kind = f"{lm.identity.id}: {type(lm.module).__name__}"
    if lm.is_recurrent:
        raise ModelError(f"{kind} has no attention")
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(2, 6, lm.input_width, generator=generator) * lm.embedding_std
    probe[1, 1:] = probe[0, 1:]
    embeds = probe.to(lm.device, lm.dtype)
    every = torch.ones(1, lm.layers, dtype=torch.bool)
    try:
        attention_mass(lm, embeds[0], 1)
        cut = torch.cat([hidden_without(lm, one, 1, every) for one in embeds])[:, 1:].float()
        uncut = torch.cat([hidden_without(lm, one, 1, ~every) for one in embeds])[:, 1:].float()
    except ModelError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{kind} gives no attention weights ({first_line(error)})") from error
    tolerance = _TOLERANCE if lm.dtype.itemsize >= 4 and lm.autocast is None else _HALF_TOLERANCE
    changed, kept = ((a - b).abs().max() / a.abs().max() for a, b in (uncut, cut))
    if not kept <= tolerance < changed:
        raise ModelError(f"{kind} does not attend by the masks of its layers, so it can't be cut")


@torch.no_grad()
def attention_mass(lm: FrozenLM, embeds: Tensor, first: int) -> Tensor:
    """Compute the attention to the first positions, averaged over all later positions.

    Args:
        lm: the model.
        embeds: (position, input_width) of one text.
        first: how many positions the attention is summed over.

    Returns:
        (layers, heads) fractions, on the CPU; NaN if no position is later.

    Raises:
        ModelError: the model gives no attention weights.
    """
    with _eager(lm), _autocast(lm):
        output = lm.module(inputs_embeds=embeds[None], use_cache=False, output_attentions=True)
    found = [one for one in getattr(output, "attentions", None) or () if one is not None]
    if len(found) != lm.layers or any(one.dim() != 4 for one in found):
        raise ModelError(
            f"{lm.identity.id}: {type(lm.module).__name__} gives no attention weights of each layer"
        )
    # (1, heads, query, key) each
    return torch.stack([one[0, :, first:, :first].float().sum(-1).mean(-1) for one in found]).cpu()


@torch.no_grad()
def hidden_without(lm: FrozenLM, embeds: Tensor, first: int, cut: Tensor) -> Tensor:
    """Run the trunk with the attention to the first positions cut in some layers.

    All later positions lose it; the first positions still attend to one another.

    Args:
        lm: the model.
        embeds: (position, input_width) of one text.
        first: how many positions are cut off.
        cut: (cases, layers) whether each layer is cut, a forward pass per case.

    Returns:
        (cases, position, d) final hidden states.

    Raises:
        ModelError: the layers take no attention mask.
    """
    size = max(1, _POSITIONS_AT_ONCE // len(embeds))
    layers = decoder_layers(split(lm.module).trunk, lm.layers)
    found = []
    with _eager(lm):
        for cases in cut.to(lm.device).split(size):
            with contextlib.ExitStack() as hooks:
                for layer, is_cut in zip(layers, cases.T, strict=True):
                    hook = _Cut(lm, layer, is_cut, first)
                    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
                    hooks.callback(handle.remove)
                found.append(lm.hidden(embeds.expand(len(cases), *embeds.shape)))
    return torch.cat(found)


class _Cut:
    """Forward pre-hook of a decoder layer that hides the first positions from the later ones.

    Args:
        lm: the model, for errors.
        layer: the layer.
        is_cut: (batch,) in which rows of the batch.
        first: how many positions are hidden.
    """

    def __init__(self, lm: FrozenLM, layer: nn.Module, is_cut: Tensor, first: int) -> None:
        self._is_cut = is_cut
        self._first = first
        names = list(inspect.signature(layer.forward).parameters)
        if "attention_mask" not in names:
            kind = f"{lm.identity.id}: {type(lm.module).__name__}"
            raise ModelError(f"{kind} has layers without an attention mask, so it can't be cut")
        self._place = names.index("attention_mask")

    def __call__(self, layer: nn.Module, args: Any, options: Any) -> tuple[Any, Any]:
        states = args[0] if args else options["hidden_states"]
        if len(args) > self._place:
            mask = self._cut(args[self._place], states)
            return (*args[: self._place], mask, *args[self._place + 1 :]), options
        return args, options | {"attention_mask": self._cut(options.get("attention_mask"), states)}

    def _cut(self, mask: Tensor | None, states: Tensor) -> Tensor:
        """Return the mask (batch, 1, query, key) of the layer with the positions hidden."""
        n = states.shape[1]
        at = torch.arange(n, device=states.device)
        if mask is None:  # then the layer is causal by itself
            mask = torch.zeros(1, 1, n, n, dtype=states.dtype, device=states.device)
            mask = mask.masked_fill(at[None] > at[:, None], torch.finfo(mask.dtype).min)
        hidden = (at[:, None] >= self._first) & (at[None] < self._first)  # (query, key)
        hidden = hidden & self._is_cut[:, None, None, None]
        lowest = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return mask.expand(len(states), *mask.shape[1:]).masked_fill(hidden, lowest)


@contextlib.contextmanager
def _eager(lm: FrozenLM) -> Iterator[None]:
    """Context manager in which the model runs in the implementation with attention weights.

    Raises:
        ModelError: the family has no such implementation.
    """
    before = lm.module.config._attn_implementation
    if before == "eager":
        yield
        return
    if not lm.module._can_set_attn_implementation():
        kind = f"{lm.identity.id}: {type(lm.module).__name__}"
        raise ModelError(f"{kind} gives no attention weights unless loaded with attention 'eager'")
    lm.module.set_attn_implementation("eager")
    try:
        yield
    finally:
        lm.module.set_attn_implementation(before)


def _autocast(lm: FrozenLM) -> contextlib.AbstractContextManager[Any]:
    if lm.autocast is None:
        return contextlib.nullcontext()
    return torch.autocast(lm.device.type, lm.autocast)
