"""Store the vectors of a chunk in fewer bits, and keep as many of its tokens as possible."""

from dataclasses import replace

import torch
from torch import Tensor

from memcram.archive.stored import Storage
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.engine.storing import storing_recipe
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

    def store(self, ids: Tensor, crammed: Crammed) -> tuple[Crammed, Storage]:
        """Return the vectors of a chunk on the values of the storage precision.

        Args:
            ids: (n,) its tokens; for a strategy that keeps a prefix, at least those held.
            crammed: its vectors, in the model's dtype.
        """
        if not self.is_least:
            return self._finish(ids, crammed, crammed, self.precisions[0])
        *integers, half, single = self.precisions
        found = None
        for name in integers:
            start = crammed if found is None else found[0]
            one = self._finish(ids, start, crammed, name)
            if one[1].shortened:
                break
            found = one
        for name in (half, single):
            if found is None or found[1].shortened:
                found = self._finish(ids, crammed, crammed, name)
        assert found is not None
        return found

    def _finish(
        self, ids: Tensor, start: Crammed, crammed: Crammed, precision: str
    ) -> tuple[Crammed, Storage]:
        """Finish vectors in one precision, beginning from those of `start`."""
        mem, held = start.mem, crammed.n_correct
        scales = scales_of(mem, precision)
        if not held:
            near = decode(encode(mem, scales, precision), scales, precision, mem.dtype)
            return replace(crammed, mem=near), Storage(precision, scales)
        engine = self._engines[precision]
        wide = torch.cat(
            [mem.to(torch.promote_types(mem.dtype, torch.float32)), scales[:, None]], 1
        )
        kept = ids[:held] if engine.recipe.strategy.keeps_prefix else ids
        [one] = engine.run([CramRequest(0, kept, len(mem), start=wide)])
        found = replace(crammed, mem=one.mem, n_correct=one.n_correct)
        return found, Storage(precision, scales, shortened=one.n_correct < held)


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
