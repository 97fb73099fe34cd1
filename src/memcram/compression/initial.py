"""Take the vectors of an earlier archive to start cramming from."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from memcram.archive.format import Archive
from memcram.engine.batch import CramRequest
from memcram.engine.initial import initial_parameters
from memcram.errors import UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe


@dataclass(frozen=True)
class InitialVectors:
    """Vectors of an archive to start from.

    Attributes:
        sha256: checksum of the archive's tensors.
        mems: per chunk (K, width).
        ends: where each chunk ends, in tokens of the archive's text.
    """

    sha256: str
    mems: tuple[Tensor, ...]
    ends: tuple[int, ...]

    def at(self, token: int) -> Tensor | None:
        """Vectors (K, width) of the chunk that holds a token; None after the last chunk."""
        chunk = bisect_right(self.ends, token)
        return self.mems[chunk] if chunk < len(self.mems) else None


def initial_vectors(
    archive: Archive | str | Path, lm: FrozenLM, recipe: Recipe, vectors: int
) -> InitialVectors:
    """Return the first `vectors` vectors of each chunk of an archive.

    Args:
        archive: the archive, or the path of its file.
        lm: the model to cram with; its dtype and layout may differ from the archive's.
        recipe: to cram with.
        vectors: K.

    Raises:
        ArchiveError: the file is not an archive, or is damaged.
        UsageError: K is not positive, the archive was made with another model, a chunk has fewer
            vectors, or the recipe cannot start from those of the first chunk.
    """
    if vectors < 1:
        raise UsageError(argument="vectors", got=vectors, allowed="1 or more")
    opened = archive if isinstance(archive, Archive) else Archive.read(archive)
    made, own = opened.manifest.model, lm.identity
    if made.input_width != lm.input_width or not own.matches(made.fingerprint):
        raise UsageError(
            f"made with {made.id} (width {made.input_width}, fingerprint "
            f"{made.fingerprint[:12]}…), but {own.id} has width {lm.input_width}, fingerprint "
            f"{own.fingerprint[:12]}…",
            argument="init",
        )
    fewest = min((len(mem) for mem in opened.mems), default=0)
    if fewest < vectors:
        problem = f"got an archive with {fewest} vectors per chunk"
        raise UsageError(problem, argument="init", allowed=f"{vectors} or more")
    mems = tuple(mem[:vectors] for mem in opened.mems)
    group = None if recipe.group_size is None else 0
    request = CramRequest("check", torch.empty(0), vectors, group=group, init=mems[0])
    initial_parameters(recipe, lm, request, torch.float32)
    ends = tuple(accumulate(opened.chunk_tokens))
    return InitialVectors(opened.manifest.tensors_sha256, mems, ends)
