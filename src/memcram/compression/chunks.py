"""Cut a text's tokens into chunks and cram each of them.

The tokens are divided into stretches that are crammed in parallel. With a given chunk length each
stretch is one chunk; otherwise a stretch is cut where the vectors are full, one chunk after the
other. Either way a chunk depends only on where it starts in the text, so that an interrupted and
resumed run ends in the same vectors as an uninterrupted one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from memcram.archive.partial import Chunk
from memcram.archive.stored import Storage
from memcram.compression.initial import InitialVectors
from memcram.compression.storing import Storer, is_stored
from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.compute import ComputeDtype
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.metrics.bound import capacity_bound
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Measurement, Outcome

# Restarts of a chunk of given length that did not come out exact: often only its init was bad.
RESTARTS = 3
# Fraction of the 16-bit capacity bound that the default recipe fills on nearly every text; see
# docs/decisions/004-default-recipe.md.
_USUAL_UTILISATION = 0.035
_MIN_CHUNK_TOKENS = 4


@dataclass(frozen=True)
class ChunkProgress:
    """Progress of one chunk that `compress` is cramming.

    Attributes:
        start: its first token.
        n_correct: correct tokens so far; those before the first wrong one, where chunks are cut to
            fit.
        loss: mean loss over the tokens that are optimised now.
        min_margin: smallest margin over these, in logits.
    """

    start: int
    n_correct: int
    loss: float
    min_margin: float


@dataclass(frozen=True)
class CodecProgress:
    """Progress of `compress` or `decompress`.

    Attributes:
        chunks_done: finished chunks.
        tokens_correct: correct tokens so far, including those of chunks in progress.
        tokens_total: all tokens.
        held: first token and end of each stretch that finished chunks hold, in no fixed order; only
            where this process crams the chunks.
        active: the chunks in progress; only there.
    """

    chunks_done: int
    tokens_correct: int
    tokens_total: int
    held: tuple[tuple[int, int], ...] = ()
    active: tuple[ChunkProgress, ...] = ()


OnProgress = Callable[[CodecProgress], None]


class _Stopped(KeyboardInterrupt):
    """Ends a run of the engine as Ctrl-C does, because the caller asked for it."""


ChunkCrammer = Callable[..., Iterator[Chunk]]
"""`cram_chunks`, or a function with its arguments and results."""


@dataclass(frozen=True)
class ChunkPlan:
    """Where a text is cut.

    Attributes:
        vectors: K, of each chunk.
        stretches: first token and end of each stretch, in order.
        fit: cut a stretch where its vectors are full; otherwise a stretch is one chunk.
        room: maximum tokens of a chunk (the model's positions), None for no limit.
        seed: of the inits.
    """

    vectors: int
    stretches: tuple[tuple[int, int], ...]
    fit: bool
    room: int | None
    seed: int


def usual_chunk_tokens(input_width: int, vocab_size: int, vectors: int) -> int:
    """Estimate the tokens that K vectors of a model of this width hold on nearly every text."""
    one = _USUAL_UTILISATION * capacity_bound(input_width, vocab_size, bits=16)
    return max(_MIN_CHUNK_TOKENS, int(one)) * vectors


def stretches(n_tokens: int, longest: int) -> tuple[tuple[int, int], ...]:
    """Divide `n` tokens into stretches of at most `longest`, whose lengths differ by at most one.

    >>> stretches(10, 4)
    ((0, 4), (4, 7), (7, 10))
    """
    count = -(-n_tokens // longest)
    edges = [0]
    for i in range(count):
        edges.append(edges[-1] + n_tokens // count + (i < n_tokens % count))
    return tuple(pairwise(edges))


def cram_chunks(
    lm: FrozenLM,
    recipe: Recipe,
    ids: Tensor,
    plan: ChunkPlan,
    finished: Iterable[Chunk] = (),
    on_progress: OnProgress | None = None,
    compute_dtype: ComputeDtype | torch.dtype = "auto",
    compile_trunk: bool = False,
    initial: InitialVectors | None = None,
    store: str | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks that are not in `finished`, each when it is done, in no fixed order.

    Args:
        lm: the frozen model.
        recipe: its strategy `horizon` is used where chunks are cut to fit.
        ids: (n,) all tokens of the text.
        plan: where to cut.
        finished: chunks of an earlier run of the same plan.
        on_progress: called as chunks advance.
        compute_dtype: of the trunk while optimising, as for `Engine`.
        compile_trunk: as for `Engine`.
        initial: vectors to start from; None, and chunks after their end: the recipe's init.
        store: precision in which the vectors are stored; None: the model's dtype.
        stop: asked after each measurement; once it returns True, chunks in progress that are cut to
            fit are yielded with the tokens that they hold, and no other chunk begins. Not for runs
            that continue later.
    """
    chosen = recipe.for_horizon() if plan.fit else recipe
    storer = Storer(lm, chosen, store) if store else None
    work = _Work(ids, plan, {chunk.start: chunk for chunk in finished}, initial, storer)
    engine = Engine(lm, chosen, compute_dtype=compute_dtype, compile_trunk=compile_trunk)

    def report(active_correct: int) -> None:
        if on_progress is not None:
            correct = work.tokens_done + active_correct
            active = tuple(_progress_of(key, one) for key, one in engine.latest.items())
            on_progress(CodecProgress(len(work.done), correct, len(ids), work.held, active))
        if stop is not None and stop():
            raise _Stopped

    def polled(status: EngineStatus) -> None:
        report(status.tokens_correct)

    interrupted: list[Crammed] = []
    requests = work.first_requests()
    try:
        while requests:
            for crammed in engine.run(requests, polled, work.follow_up):
                interrupted += [crammed] * (crammed.outcome == Outcome.INTERRUPTED)
                yield from work.take_chunks()
            if work.unstored:
                work.store()
                yield from work.take_chunks()
                report(0)
            requests = work.take_requests()
    except _Stopped:
        work.keep(interrupted)
        yield from work.take_chunks()


def _progress_of(key: Any, measured: Measurement) -> ChunkProgress:
    return ChunkProgress(key.start, measured.max_held, measured.loss, measured.min_margin)


def fits(chunk: Chunk, plan: ChunkPlan, lm: FrozenLM, store: str | None) -> bool:
    """Whether a chunk found on disk can belong to this plan; others are crammed again."""
    shape, mem = (plan.vectors, lm.input_width), chunk.mem
    if mem.shape != shape or mem.dtype != lm.dtype or not bool(mem.isfinite().all()):
        return False
    if not is_stored(mem, chunk.storage, store):
        return False
    end = chunk.start + chunk.n_tokens
    return chunk.n_tokens > 0 and any(
        first <= chunk.start and end <= last for first, last in plan.stretches
    )


def in_order(chunks: dict[int, Chunk]) -> Iterator[int]:
    """Order chunks from the text's first token on, each starting where the previous one ends."""
    start = 0
    while start in chunks:
        yield start
        start += chunks[start].n_tokens


@dataclass(frozen=True)
class _Place:
    """Key of a request: its first token, the end of its stretch, its number of restarts."""

    start: int
    end: int
    attempt: int = 0


class _Work:
    """Tracks the finished chunks, and makes the next request of each stretch."""

    def __init__(
        self,
        ids: Tensor,
        plan: ChunkPlan,
        done: dict[int, Chunk],
        initial: InitialVectors | None,
        storer: Storer | None,
    ) -> None:
        self.ids = ids
        self.plan = plan
        self.initial = initial
        self.done = done
        self.storer = storer
        self._tokens_stored = sum(chunk.n_tokens for chunk in done.values())
        self._spans = tuple((start, start + chunk.n_tokens) for start, chunk in done.items())
        self._best: dict[int, Crammed] = {}
        self.unstored: list[tuple[_Place, Crammed]] = []
        self._chunks: list[Chunk] = []
        self._requests: list[CramRequest] = []

    @property
    def tokens_done(self) -> int:
        """Tokens of finished chunks, and those held by chunks that are not stored yet."""
        return self._tokens_stored + sum(crammed.n_correct for _, crammed in self.unstored)

    @property
    def held(self) -> tuple[tuple[int, int], ...]:
        """First token and end of what these chunks hold."""
        unstored = ((one.start, one.start + crammed.n_correct) for one, crammed in self.unstored)
        return (*self._spans, *unstored)

    def take_chunks(self) -> Iterator[Chunk]:
        """Yield the chunks finished since the last call."""
        while self._chunks:
            yield self._chunks.pop(0)

    def take_requests(self) -> list[CramRequest]:
        """The next chunks of stretches that no call of `follow_up` has returned."""
        taken, self._requests = self._requests, []
        return taken

    def first_requests(self) -> list[CramRequest]:
        """The next chunk of each stretch that is not finished."""
        requests = []
        for start, end in self.plan.stretches:
            place = start
            while place < end and place in self.done:
                place += self.done[place].n_tokens
            if place < end:
                requests.append(self._request(_Place(place, end)))
        return requests

    def follow_up(self, crammed: Crammed) -> CramRequest | None:
        """A restart of a chunk that failed, or the chunk after a finished one."""
        place = crammed.key
        assert isinstance(place, _Place)
        if not self.plan.fit:
            before = self._best.get(place.start)
            if before is None or crammed.n_correct > before.n_correct:
                self._best[place.start] = crammed
            if crammed.outcome != Outcome.CORRECT and place.attempt < RESTARTS:
                return self._request(replace(place, attempt=place.attempt + 1))
            crammed = self._best.pop(place.start)
        self._add(place, crammed)
        return self._requests.pop(0) if self._requests else None

    def keep(self, interrupted: Iterable[Crammed]) -> None:
        """Finish chunks in progress with what they hold, where chunks are cut to fit."""
        for crammed in interrupted:
            if self.plan.fit and crammed.n_correct:
                self._add(crammed.key, crammed)
        if self.unstored:
            self.store()

    def _add(self, place: Any, crammed: Crammed) -> None:
        """Finish a chunk, or let it wait until chunks are stored side by side."""
        if self.storer is None:
            self._finish(place, crammed, None)
            return
        self.unstored.append((place, crammed))
        if self.storer.fills_a_batch([one for _, one in self.unstored]):
            self.store()

    def store(self) -> None:
        """Finish the unstored chunks in the storage precision, side by side."""
        assert self.storer is not None
        texts = [(self.ids[place.start : place.end], crammed) for place, crammed in self.unstored]
        found = self.storer.store(texts)
        for (place, _), (crammed, storage) in zip(self.unstored, found, strict=True):
            self._finish(place, crammed, storage)
        self.unstored = []

    def _finish(self, place: _Place, crammed: Crammed, storage: Storage | None) -> None:
        # A token that no vectors hold becomes a chunk of its own, with a correction.
        n_tokens = max(1, crammed.n_correct) if self.plan.fit else place.end - place.start
        chunk = Chunk(place.start, n_tokens, crammed.mem, storage)
        self.done[place.start] = chunk
        self._tokens_stored += n_tokens
        self._chunks.append(chunk)
        following = place.start + n_tokens
        self._spans = (*self._spans, (place.start, following))
        if following < place.end:
            self._requests.append(self._request(_Place(following, place.end)))

    def _request(self, place: _Place) -> CramRequest:
        end = place.end
        if self.plan.room is not None:
            end = min(end, place.start + self.plan.room)
        offset = place.start * (RESTARTS + 1) + place.attempt
        # A restart from the same vectors would end in the same ones.
        init = self.initial.at(place.start) if self.initial and not place.attempt else None
        return CramRequest(
            key=place,
            ids=self.ids[place.start : end],
            vectors=self.plan.vectors,
            seed=self.plan.seed + SEED_STRIDE * offset,
            init=init,
        )
