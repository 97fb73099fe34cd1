"""Cram the chunks of a text on Ray's workers."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from memcram.archive.partial import Chunk
from memcram.compression.chunks import ChunkPlan, CodecProgress, OnProgress, cram_chunks
from memcram.compression.initial import InitialVectors
from memcram.distributed.actor import Emit
from memcram.distributed.pool import Cluster, Pool
from memcram.distributed.schedule import Item
from memcram.distributed.study import check_version
from memcram.errors import ModelError
from memcram.models import load_lm
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe

# Between two reports of a worker's progress.
_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class _Active:
    """Correct tokens of the chunks that a worker is working on."""

    tokens: int


@dataclass(frozen=True)
class _Batch:
    """Stretches of a text, and the chunks of them that are finished."""

    stretches: tuple[tuple[int, int], ...]
    finished: tuple[Chunk, ...]


@dataclass
class ChunkJob:
    """One text in a worker process.

    Attributes:
        model, how: name and keyword arguments of `load_lm`.
        recipe, ids, plan, compute_dtype, compile_trunk, initial, store: as for `cram_chunks`.
    """

    model: str
    how: Mapping[str, Any]
    recipe: Recipe
    ids: Tensor
    plan: ChunkPlan
    compute_dtype: torch.dtype
    compile_trunk: bool
    initial: InitialVectors | None
    store: str | None
    _lm: FrozenLM | None = None

    def load(self, argument: None) -> tuple[str, str]:
        """Load the model; return the version of memcram and the model's fingerprint."""
        self._lm = load_lm(self.model, **self.how)
        return version("memcram"), self._lm.identity.fingerprint

    def work(self, batch: _Batch, emit: Emit) -> None:
        """Cram the chunks of some stretches."""
        assert self._lm is not None
        held = sum(chunk.n_tokens for chunk in batch.finished)
        reported_at = float("-inf")

        def report(progress: CodecProgress) -> None:
            nonlocal reported_at
            if time.monotonic() - reported_at >= _REPORT_SECONDS:
                reported_at = time.monotonic()
                emit([], _Active(max(0, progress.tokens_correct - held)))

        starts = {end: start for start, end in batch.stretches}
        for chunk in cram_chunks(
            self._lm,
            self.recipe,
            self.ids,
            replace(self.plan, stretches=batch.stretches),
            batch.finished,
            report,
            self.compute_dtype,
            self.compile_trunk,
            self.initial,
            self.store,
        ):
            held += chunk.n_tokens
            end = chunk.start + chunk.n_tokens
            emit([starts[end]] if end in starts else [], chunk)
        emit([], _Active(0))


class RayChunks:
    """Crams chunks on a Ray cluster, with the arguments and results of `cram_chunks`.

    A stretch of the text goes to one worker, so a text that is cut where its vectors are full keeps
    at most as many workers busy as it has stretches of eight usual chunks.

    Args:
        cluster: where the workers run.
        model: name of the model, as for `load_lm`; a path must exist on every machine.
        how: keyword arguments of `load_lm`.
    """

    def __init__(self, cluster: Cluster, model: str, how: Mapping[str, Any]) -> None:
        self._cluster = cluster
        self._model = model
        device = how.get("device") or (None if cluster.uses_gpus else "cpu")
        self._how = {**how, "device": device}

    def __call__(
        self,
        lm: FrozenLM,
        recipe: Recipe,
        ids: Tensor,
        plan: ChunkPlan,
        finished: Iterable[Chunk],
        on_progress: OnProgress | None,
        compute_dtype: torch.dtype,
        compile_trunk: bool,
        initial: InitialVectors | None,
        store: str | None,
    ) -> Iterator[Chunk]:
        """Yield the chunks that are not in `finished`, each when it is done, in no fixed order.

        Raises:
            ModelError: the workers have another model or version, or are lost too often.
        """
        job = ChunkJob(
            self._model,
            {**self._how, "layout": lm.layout},
            recipe,
            ids,
            plan,
            compute_dtype,
            compile_trunk,
            initial,
            store,
        )
        chunks = {chunk.start: chunk for chunk in finished}
        pool = Pool(self._cluster, job)
        installed, fingerprint = pool.load(None)
        check_version(installed)
        if fingerprint != lm.identity.fingerprint:
            raise ModelError("the workers have another model of this name than this machine")
        active: dict[int, int] = {}
        for worker, message in pool.run(
            _items(plan, chunks), lambda items: _batch(plan, chunks, items)
        ):
            match message:
                case Chunk():
                    chunks[message.start] = message
                    yield message
                case _Active(tokens):
                    active[worker] = tokens
                case None:
                    active[worker] = 0
            if on_progress is not None:
                done = sum(chunk.n_tokens for chunk in chunks.values())
                correct = min(len(ids), done + sum(active.values()))
                on_progress(CodecProgress(len(chunks), correct, len(ids)))


def _items(plan: ChunkPlan, chunks: Mapping[int, Chunk]) -> list[Item]:
    """List the stretches with something left, by their first token."""
    found = []
    for start, end in plan.stretches:
        place = start
        while place < end and place in chunks:
            place += chunks[place].n_tokens
        if place < end:
            found.append(Item(start, end - place))
    return found


def _batch(plan: ChunkPlan, chunks: Mapping[int, Chunk], items: Sequence[Item]) -> _Batch:
    """Add what is finished of some stretches, also of those that a lost worker began."""
    keys = {item.key for item in items}
    stretches = tuple(one for one in plan.stretches if one[0] in keys)
    finished = tuple(
        chunk
        for chunk in chunks.values()
        if any(start <= chunk.start < end for start, end in stretches)
    )
    return _Batch(stretches, finished)
