"""Check at load that a model is causal, and that its parts and its cache equal the whole.

The rest of the package relies on these properties: a model without them would give wrong
measurements, or archives that cannot be decoded. A few short forward passes test them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.errors import ModelError, first_line
from memcram.models.caches import keep_rows
from memcram.models.frozen_lm import FrozenLM
from memcram.models.memory import is_out_of_memory

_TEXTS, _POSITIONS, _KEPT = 3, 8, 5


@dataclass(frozen=True)
class _Tolerance:
    """Maximum differences due to rounding, relative to the largest logit.

    Attributes:
        later: change of earlier logits when later inputs change. They are computed the same way,
            except for which rows share a kernel call in mixtures of experts.
        parts: difference of the parts from the whole, and of cached logits.
        position: quantile of the positions' differences that is compared. In half precision,
            rounding may route a token to another expert, but not most tokens.
    """

    later: float
    parts: float
    position: float


_FULL = _Tolerance(later=1e-4, parts=1e-3, position=1.0)
_HALF = _Tolerance(later=1e-2, parts=5e-2, position=0.5)


def check_model(lm: FrozenLM) -> None:
    """Refuse a model that memcram cannot work with.

    Raises:
        ModelError: input vectors are overwritten; logits are not finite; a later input changes
            earlier logits; the head is not the one memcram applies; or decoding with a cache fails
            or gives different logits.
    """
    kind = f"{lm.identity.id}: {type(lm.module).__name__}"
    tolerance = _HALF if lm.dtype.itemsize < 4 or lm.autocast is not None else _FULL
    probe = _probe(lm)
    # In the second half of the batch, the inputs after the first few positions are other ones.
    changed = probe.clone()
    changed[:, _KEPT:] = 3 * probe[:, _KEPT:].roll(1, 0).flip(1)
    batch = torch.cat([probe, changed])

    given = batch.clone()
    whole = _run(lambda: lm.logits(batch), f"{kind} cannot be run on input vectors")
    if not torch.equal(batch, given):
        raise ModelError(f"{kind} overwrites its input vectors, which memcram trains")
    if not whole.isfinite().all():
        raise ModelError(f"{lm.identity.id}: {_not_finite(lm)}")
    first, second = whole[:_TEXTS, :_KEPT], whole[_TEXTS:, :_KEPT]
    if not _difference(second, first, tolerance.position) <= tolerance.later:
        raise ModelError(
            f"{kind} is bidirectional: a later token changes earlier logits; memcram needs a "
            "causal language model"
        )
    parts = _run(lambda: _in_parts(lm, batch), f"{kind} cannot be split into trunk and head")
    if parts.shape != whole.shape or not _difference(parts, whole) <= tolerance.parts:
        raise ModelError(
            f"{kind} changes its logits in a way memcram does not know; please report the "
            "architecture"
        )
    cached = _run(lambda: _cached(lm, probe), f"{kind} has no usable KV cache")
    uncached = torch.cat([whole[:_TEXTS, _KEPT - 1 : -1].flatten(0, 1), whole[:1, -1]])
    if not _difference(cached, uncached, tolerance.position) <= tolerance.parts:
        raise ModelError(f"{kind} gives different logits when decoding with a cache")


def _probe(lm: FrozenLM) -> Tensor:
    """Draw inputs (text, position, width): embeddings of random tokens plus noise of equal size."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, lm.vocab_size, (_TEXTS, _POSITIONS), generator=generator)
    noise = torch.randn(*ids.shape, lm.input_width, generator=generator) * lm.embedding_std
    embeds = lm.embed(ids.clamp(max=lm.embedding_rows - 1))
    return (embeds + noise.to(lm.device)).to(lm.dtype)


@torch.no_grad()
def _in_parts(lm: FrozenLM, embeds: Tensor) -> Tensor:
    return lm.head(lm.hidden(embeds))


def _cached(lm: FrozenLM, embeds: Tensor) -> Tensor:
    """Compute logits with a cache: of the first positions at once, then of one position at a time.

    As decoding drops finished texts from the cache, the last position is fed to the first text
    only.
    """
    logits, cache = lm.advance(embeds[:, :_KEPT], None)
    steps = [logits]
    for position in range(_KEPT, _POSITIONS - 1):
        logits, cache = lm.advance(embeds[:, position : position + 1], cache)
        steps.append(logits)
    last = embeds[:, -1:]
    if keep_rows(cache, torch.zeros(1, dtype=torch.long, device=embeds.device)):
        last = last[:1]
    logits, _ = lm.advance(last, cache)
    return torch.cat([torch.stack(steps, dim=1).flatten(0, 1), logits[:1]])


def _run(compute: Callable[[], Tensor], failure: str) -> Tensor:
    """Call `compute`, and turn any error of the architecture into a one-line `ModelError`."""
    try:
        return compute()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{failure} ({first_line(error)})") from error


def _difference(found: Tensor, expected: Tensor, position: float = 1.0) -> float:
    """Return a quantile of the positions' differences, relative to the largest expected logit."""
    expected = expected.float()
    by_position = (found.float() - expected).abs().amax(-1).flatten()
    return (by_position.quantile(position) / expected.abs().max().clamp(min=1e-30)).item()


def _not_finite(lm: FrozenLM) -> str:
    others = {"float16": "use bfloat16 or float32", "bfloat16": "use float32"}
    smaller = lm.dtype if lm.autocast is None else lm.autocast
    advice = others.get(str(smaller).removeprefix("torch."), "the weights are damaged")
    return f"logits are not finite in {lm.dtype_name}; {advice}"
