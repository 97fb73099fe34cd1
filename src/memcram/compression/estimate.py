"""What would it take to hold this text? Asked of a few of its chunks."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from memcram.archive.corrections import GUARD_MARGINS, find_corrections
from memcram.archive.pieces import TokenizedText, tokenize
from memcram.archive.size import ArchiveCounts, archive_bytes
from memcram.compression.chunking import usual_chunk_tokens
from memcram.compression.chunks import ChunkPlan
from memcram.compression.codec import archive_recipe, chunk_plan, decode_utf8, manifest_of
from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.errors import ModelError, TextError, UsageError
from memcram.metrics.bound import capacity_bound
from memcram.metrics.cutting import CutCost, Interval, cut_cost
from memcram.metrics.statistics import Spread, spread
from memcram.models import decoding
from memcram.models.accounting import padded_length
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies.fixed import Fixed

_TIMED_POLLS = 12
_ANY_SHA256 = "0" * 64


@dataclass(frozen=True)
class MeasuredChunk:
    """A chunk crammed for the plan.

    Attributes:
        start: its first token in the text.
        n_tokens: tokens the vectors hold; 1 with a correction if they hold none.
        corrections, guards: tokens an archive would store beside the vectors.
        steps, token_steps: spent on it.
    """

    start: int
    n_tokens: int
    corrections: int
    guards: int
    steps: int
    token_steps: int


@dataclass(frozen=True)
class Plan:
    """What a text takes at one K; intervals are 95 % prediction intervals.

    Attributes:
        vectors_per_chunk: K.
        chunk_tokens: of the measured chunks, with a bootstrap interval of the mean.
        chunks, vectors: of the whole text.
        tokens_per_vector: of the whole text, the last short chunk of each stretch included.
        share_of_bound: tokens per vector / capacity bound at 16 bits.
        archive_bytes: of the file `compress` would write.
        token_steps: to be spent on the whole text.
        token_steps_per_second: measured here and now with `slots` texts side by side.
        seconds: token-steps at that rate; the interval holds the work, not the machine.
        slots: chunks that the engine would work on side by side.
        measured: the chunks all this rests on.
    """

    vectors_per_chunk: int
    chunk_tokens: Spread
    chunks: Interval
    vectors: Interval
    tokens_per_vector: Interval
    share_of_bound: Interval
    archive_bytes: Interval
    token_steps: Interval
    token_steps_per_second: float
    seconds: Interval
    slots: int
    measured: tuple[MeasuredChunk, ...]


@dataclass(frozen=True)
class TextPlan:
    """Plans of one text: its size, the capacity bound (tokens a vector, 16 bits), and one per K."""

    text_bytes: int
    tokens: int
    bound_tokens: float
    plans: tuple[Plan, ...]


def plan(
    text: str | bytes,
    lm: FrozenLM,
    *,
    vectors: Sequence[int] = (1,),
    recipe: str | Recipe = "default",
    steps: int | None = None,
    samples: int = 16,
    seed: int = 0,
    measured: Mapping[int, Sequence[MeasuredChunk]] | None = None,
    on_poll: Callable[[EngineStatus], None] | None = None,
) -> TextPlan:
    """Foretell what `compress` would make of a text, from chunks at places spread over it.

    See docs/planning.md for what is measured and what is assumed.

    Args:
        text: the text, or its UTF-8 bytes.
        lm: the frozen model; its dtype is the archive's.
        vectors: one or more K.
        recipe: name of a recipe, or one of your own, that finds chunk lengths by itself.
        steps: budget per chunk in optimiser steps; None takes the recipe's.
        samples: chunks to cram for each K, 2 or more.
        seed: of the places, the starts and the resampling.
        measured: chunks by K of another plan, of a text like this one, in place of new ones.
        on_poll: called as the chunks grow.

    Raises:
        TextError: the text is empty, not UTF-8, or has fewer tokens than the samples would take.
        UsageError: a number or the recipe is out of range.
    """
    if samples < 2:
        raise UsageError(f"--samples: got {samples}, allowed: 2 or more")
    if not vectors or len(set(vectors)) != len(vectors):
        raise UsageError(f"--vectors: got {list(vectors)}, allowed: one or more, each once")
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    chosen = archive_recipe(recipe, steps, lm)
    growing = chosen.for_horizon()
    tokenized = tokenize(decode_utf8(data), lm)
    n = len(tokenized.ids)
    cuts = [chunk_plan(lm, n, k, None, seed) for k in vectors]
    if measured is None:
        for k in vectors:
            _check_long_enough(n, samples, k, usual_chunk_tokens(lm.input_width, lm.vocab_size, k))
        measured = _measure(lm, growing, tokenized.ids, cuts, samples, on_poll)
    source = _Source(lm, chosen, data, tokenized)
    plans = tuple(source.plan(cut, measured[cut.vectors]) for cut in cuts)
    bound = capacity_bound(lm.input_width, lm.vocab_size, bits=16)
    return TextPlan(len(data), n, bound, plans)


def _check_long_enough(n_tokens: int, samples: int, vectors: int, usual: int) -> None:
    if n_tokens < samples * usual:
        raise TextError(
            f"TEXT: {n_tokens} tokens, too few to plan from {samples} chunks with K = {vectors}; "
            f"needed: {samples * usual} (fewer --samples need fewer, and compress costs no more)"
        )


def sample_starts(n_tokens: int, samples: int, seed: int) -> list[int]:
    """First tokens of the samples, all different: a seeded place in each of as many equal parts.

    Args:
        n_tokens: of the text, at least `samples`.
        samples: how many.
        seed: of the places.
    """
    draw = random.Random(seed)
    starts: list[int] = []
    for i in range(samples):
        drawn = int((i + draw.random()) * n_tokens / samples)
        # Where parts end within a token, two may begin at it.
        starts.append(max(drawn, starts[-1] + 1) if starts else drawn)
    return starts


# -- measuring ----------------------------------------------------------------------------------


def _measure(
    lm: FrozenLM,
    recipe: Recipe,
    ids: Sequence[int],
    cuts: Sequence[ChunkPlan],
    samples: int,
    on_poll: Callable[[EngineStatus], None] | None,
) -> dict[int, list[MeasuredChunk]]:
    """By K: cram `samples` chunks for every way of cutting, all side by side."""
    tokens = torch.tensor(ids, dtype=torch.long)
    requests = {}
    for cut in cuts:
        for start in sample_starts(len(ids), samples, cut.seed):
            # At the text's end a sample goes on at its beginning, so that all places count alike.
            sample = tokens.roll(-start)[: _reach(cut)]
            seed = cut.seed + SEED_STRIDE * start
            key = (cut.vectors, start)
            requests[key] = CramRequest(key, sample, cut.vectors, seed)
    crammed = {one.key: one for one in Engine(lm, recipe).run(requests.values(), on_poll)}
    found: dict[int, list[MeasuredChunk]] = {cut.vectors: [] for cut in cuts}
    for key, request in requests.items():
        k, start = key
        found[k].append(_judge(lm, start, request, crammed[key]))
    return found


def _reach(cut: ChunkPlan) -> int:
    """Tokens a chunk may have at most: a whole stretch, or the model's positions."""
    longest = max(end - start for start, end in cut.stretches)
    return longest if cut.room is None else min(longest, cut.room)


def _judge(lm: FrozenLM, start: int, request: CramRequest, crammed: Crammed) -> MeasuredChunk:
    """What an archive would store of this chunk."""
    n = max(1, crammed.n_correct)
    true = request.ids[:n]
    decoded = decoding.greedy(lm, [crammed.mem], [n], forced=[true])
    found = find_corrections(decoded, [true], GUARD_MARGINS[lm.dtype])
    beside = len(found.missed), len(found.guarded)
    return MeasuredChunk(start, n, *beside, crammed.steps, crammed.token_steps)


def _rate(
    lm: FrozenLM, recipe: Recipe, ids: Sequence[int], cut: ChunkPlan, found: Sequence[MeasuredChunk]
) -> tuple[float, int]:
    """Token-steps per second with as many texts side by side as the real run seats; and how many.

    The texts are as long as the measured chunks were, averaged over their steps.

    Raises:
        ModelError: nothing could be timed.
    """
    before = lm.input_length(cut.vectors, 0)  # input positions beyond those of the tokens
    lengths = [
        max(1, min(_reach(cut), one.token_steps // (one.steps + 1) - before)) for one in found
    ]
    usual = Engine(lm, recipe)
    padded = padded_length(before + max(lengths), lm.max_positions)
    slots = min(len(cut.stretches), max(1, usual.batch_tokens // padded))
    tokens = torch.tensor(ids, dtype=torch.long)
    requests = [
        CramRequest(i, tokens.roll(-found[j].start)[: lengths[j]], cut.vectors, i)
        for i, j in ((i, i % len(found)) for i in range(slots))
    ]
    # No margin reaches this: all texts stay in the batch while the clock runs.
    strategy = Fixed(steps=_TIMED_POLLS * usual.poll_every, margin=1e30)
    timed = Engine(lm, replace(recipe, strategy=strategy), poll_every=usual.poll_every)
    ticks: list[tuple[float, EngineStatus]] = []
    for _ in timed.run(requests, lambda status: ticks.append((time.perf_counter(), status))):
        pass
    ticks = [tick for tick in ticks if tick[1].active]
    if len(ticks) < 2:
        raise ModelError(f"{lm.identity.id}: no step could be timed (the loss is not finite)")
    text_steps = sum(
        after.active * (after.steps - earlier.steps) for (_, earlier), (_, after) in pairwise(ticks)
    )
    length = sum(len(request.ids) + before for request in requests) / slots
    return length * text_steps / (ticks[-1][0] - ticks[0][0]), ticks[-1][1].active


# -- from the chunks to the text ----------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """The text that is planned for, and with what."""

    lm: FrozenLM
    recipe: Recipe
    data: bytes
    tokenized: TokenizedText

    def plan(self, cut: ChunkPlan, found: Sequence[MeasuredChunk]) -> Plan:
        """The whole text from its measured chunks."""
        n, k = len(self.tokenized.ids), cut.vectors
        cost = text_cost(found, cut)
        rate, slots = _rate(self.lm, self.recipe.for_horizon(), self.tokenized.ids, cut, found)
        bound = capacity_bound(self.lm.input_width, self.lm.vocab_size, bits=16)
        chunks = _whole(cost.chunks)
        ends = (cost.chunks.expected, cost.chunks.high, cost.chunks.low)
        per_vector = Interval(*(n / (k * count) for count in ends))
        return Plan(
            vectors_per_chunk=k,
            chunk_tokens=spread([chunk.n_tokens for chunk in found], cut.seed),
            chunks=chunks,
            vectors=chunks.times(k),
            tokens_per_vector=per_vector,
            share_of_bound=per_vector.times(1 / bound),
            archive_bytes=Interval(
                *(
                    self._bytes(cut, found, int(count))
                    for count in (chunks.expected, chunks.low, chunks.high)
                )
            ),
            token_steps=cost.token_steps,
            token_steps_per_second=rate,
            seconds=cost.token_steps.times(1 / rate),
            slots=slots,
            measured=tuple(found),
        )

    def _bytes(self, cut: ChunkPlan, found: Sequence[MeasuredChunk], chunks: int) -> int:
        """Of an archive with that many chunks; corrections as often as in those measured."""
        raw, pieces = self.tokenized.raw, self.tokenized.piece_tokens
        counts = ArchiveCounts(
            vectors=chunks * cut.vectors,
            chunks=chunks,
            corrections=round(sum(one.corrections for one in found) * chunks / len(found)),
            guards=round(sum(one.guards for one in found) * chunks / len(found)),
            pieces=len(pieces),
            raw_pieces=len(raw),
            raw_bytes=sum(len(piece.data) for piece in raw),
        )
        n = len(self.tokenized.ids)
        made = manifest_of(self.lm, self.recipe, cut.seed, self.data, n, _ANY_SHA256)
        return archive_bytes(made, counts)


def text_cost(found: Sequence[MeasuredChunk], cut: ChunkPlan) -> CutCost:
    """Chunks and token-steps of a text that is cut so, from chunks like its own."""
    return cut_cost(
        [one.n_tokens for one in found],
        [one.token_steps for one in found],
        [end - start for start, end in cut.stretches],
        cut.seed,
    )


def _whole(interval: Interval) -> Interval:
    """Whole numbers, rounded outwards at the ends."""
    return Interval(round(interval.expected), math.floor(interval.low), math.ceil(interval.high))
