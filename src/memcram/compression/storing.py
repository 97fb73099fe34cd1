"""Store the vectors of chunks in fewer bits, and keep as many of their tokens as possible."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from memcram.archive.stored import Storage
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.engine.storing import storing_recipe
from memcram.models.accounting import padded_length
from memcram.models.frozen_lm import FrozenLM
from memcram.quantisation import decode, encode, precisions_of, scales_of
from memcram.recipes.recipe import Recipe


class Storer:
    """Finishes crammed vectors in a storage precision.

    Args:
        lm: the frozen model.
        recipe: with which the vectors were crammed.
        store: a member of `memcram.quantisation.STORES`. `least` finds the fewest bits per
            dimension that hold all tokens: from 8 bits downwards, up to the first that do not.
    """

    def __init__(self, lm: FrozenLM, recipe: Recipe, store: str) -> None:
        self.lm = lm
        self.precisions = precisions_of(store)
        self.is_least = store == "least"
        self._engines = {
            name: Engine(
                lm,
                storing_recipe(recipe, name, may_cut=not self.is_least),
                compute_dtype=lm.dtype,
            )
            for name in self.precisions
        }

    def fills_a_batch(self, crammed: Sequence[Crammed]) -> bool:
        """Whether these chunks, of equal K, are as many as the engine takes at once."""
        longest = max(self.lm.input_length(len(one.mem), one.n_correct) for one in crammed)
        padded = padded_length(longest, self.lm.max_positions)
        return padded * len(crammed) >= self._engines[self.precisions[0]].batch_tokens

    def store(self, texts: Sequence[tuple[Tensor, Crammed]]) -> list[tuple[Crammed, Storage]]:
        """Return the vectors of chunks on the values of the storage precision.

        Chunks are finished side by side, but each result is that of the chunk alone.

        Args:
            texts: per chunk its tokens (n,), for a strategy that keeps a prefix at least those
                held, and its vectors in the model's dtype.
        """
        crammed = [one for _, one in texts]
        if not self.is_least:
            return self._finish(texts, crammed, self.precisions[0])
        *integers, half, single = self.precisions
        found: dict[int, tuple[Crammed, Storage]] = {}
        falling = list(range(len(texts)))
        for name in integers:
            starts = [found[i][0] if i in found else crammed[i] for i in falling]
            ended = self._finish([texts[i] for i in falling], starts, name)
            held = {i: one for i, one in zip(falling, ended, strict=True) if not one[1].shortened}
            found |= held
            falling = list(held)
        missing = [i for i in range(len(texts)) if i not in found]
        for name in (half, single):
            ended = self._finish([texts[i] for i in missing], [crammed[i] for i in missing], name)
            found |= dict(zip(missing, ended, strict=True))
            missing = [i for i in missing if found[i][1].shortened]
        return [found[i] for i in range(len(texts))]

    def _finish(
        self, texts: Sequence[tuple[Tensor, Crammed]], starts: Sequence[Crammed], precision: str
    ) -> list[tuple[Crammed, Storage]]:
        """Finish chunks in one precision, beginning from the vectors of `starts`."""
        engine = self._engines[precision]
        found: dict[int, tuple[Crammed, Storage]] = {}
        requests = []
        for i, ((ids, crammed), start) in enumerate(zip(texts, starts, strict=True)):
            mem, held = start.mem, crammed.n_correct
            scales = scales_of(mem, precision)
            if held:
                kept = ids[:held] if engine.recipe.strategy.keeps_prefix else ids
                wide = mem.to(torch.promote_types(mem.dtype, torch.float32))
                given = torch.cat([wide, scales[:, None]], 1)
                requests.append(CramRequest(i, kept, len(mem), start=given))
            near = decode(encode(mem, scales, precision), scales, precision, mem.dtype)
            found[i] = replace(crammed, mem=near), Storage(precision, scales)
        for one in engine.run(requests):
            assert isinstance(one.key, int)
            crammed, storage = texts[one.key][1], found[one.key][1]
            shortened = one.n_correct < crammed.n_correct
            found[one.key] = (
                replace(crammed, mem=one.mem, n_correct=one.n_correct),
                replace(storage, shortened=shortened),
            )
        return [found[i] for i in range(len(texts))]


def is_stored(mem: Tensor, storage: Storage | None, store: str | None) -> bool:
    """Whether vectors (K, width) read from disk are values of this storage precision."""
    if storage is None or store is None:
        return storage is None and store is None
    scales, precision = storage.scales, storage.precision
    is_scale = scales.isfinite() & (scales > 0)
    if scales.dtype != torch.float32 or scales.shape != mem.shape[:1] or not bool(is_scale.all()):
        return False
    if precision not in precisions_of(store):
        return False
    codes = encode(mem, scales, precision)
    return torch.equal(decode(codes, scales, precision, mem.dtype), mem)
