"""Estimate a text's vectors, bytes and time from sample chunks."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from memcram.archive.corrections import GUARD_MARGINS, find_corrections
from memcram.archive.format import TENSOR_DTYPES, Archive, ArchiveTensors
from memcram.archive.pieces import TokenizedText, tokenize
from memcram.compression.chunks import ChunkPlan, usual_chunk_tokens
from memcram.compression.codec import archive_recipe, chunk_plan, decode_text
from memcram.compression.contents import manifest_of
from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.compute import ComputeDtype, choose_compute_dtype, recorded_settings
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.engine.speed import text_steps_per_second
from memcram.errors import TextError, UsageError
from memcram.metrics.bound import capacity_bound
from memcram.metrics.cutting import CutCost, Interval, cut_cost
from memcram.metrics.statistics import Spread, spread
from memcram.models import decoding
from memcram.models.accounting import padded_length
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe

_TIMED_POLLS = 12


@dataclass(frozen=True)
class MeasuredChunk:
    """A chunk that was crammed for the plan.

    Attributes:
        start: its first token in the text.
        n_tokens: tokens the vectors hold; 1 with a correction if they hold none.
        corrections, guards: tokens that an archive would store in addition to the vectors.
        steps, token_steps: spent on it.
        budget_ended: the budget ended it, so that a larger one might hold more.
    """

    start: int
    n_tokens: int
    corrections: int
    guards: int
    steps: int
    token_steps: int
    budget_ended: bool = False


@dataclass(frozen=True)
class Plan:
    """Estimates for one text at one K; intervals are 95 % prediction intervals.

    Attributes:
        vectors_per_chunk: K.
        chunk_tokens: of the measured chunks, with a bootstrap interval of the mean.
        chunks, vectors: of the whole text.
        tokens_per_vector: of the whole text, the last short chunk of each stretch included.
        share_of_bound: tokens per vector / capacity bound at 16 bits.
        archive_bytes: size of the file `compress` would write, within a few hundred bytes.
        token_steps: of the whole text.
        token_steps_per_second: measured on this machine with `slots` texts side by side.
        seconds: token-steps at that rate; the interval covers the work, not the machine's load.
        slots: chunks that the engine would cram in one batch.
        measured: the sample chunks.
        budget_ended: how many of them the budget ended; a larger one might give longer chunks.
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
    budget_ended: int


@dataclass(frozen=True)
class TextPlan:
    """Plans of one text, one per K, with the capacity bound (tokens per vector at 16 bits)."""

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
    compute_dtype: ComputeDtype = "auto",
    compile_trunk: bool = False,
    measured: Mapping[int, Sequence[MeasuredChunk]] | None = None,
    on_poll: Callable[[EngineStatus], None] | None = None,
) -> TextPlan:
    """Estimate the vectors, bytes and time that `compress` needs, from sample chunks of the text.

    See docs/planning.md for what is measured and what is assumed.

    Args:
        text: the text, or its UTF-8 bytes.
        lm: the frozen model; its dtype is the archive's.
        vectors: one or more K.
        recipe: name of a recipe, or a recipe of your own; it must find chunk lengths by itself.
        steps: budget per chunk in optimiser steps; None: the recipe's.
        samples: chunks to cram for each K, 2 or more.
        seed: of the sample positions, the inits and the resampling.
        compute_dtype: of the trunk while optimising, as for `Engine`.
        compile_trunk: as for `Engine`. The time that compiling takes is not estimated.
        measured: sample chunks by K from the plan of a similar text; none are crammed then.
        on_poll: called as the chunks grow.

    Examples:
        >>> import memcram
        >>> lm = memcram.load_lm("pocket")
        >>> found = memcram.plan("It was a dark and stormy night. " * 8, lm, samples=2, steps=20)
        >>> found.plans[0].vectors_per_chunk
        1

    Raises:
        TextError: the text is empty, not UTF-8, or has fewer tokens than the samples would take.
        UsageError: a number or the recipe is out of range, or `measured` lacks a K.
    """
    if samples < 2:
        raise UsageError(argument="samples", got=samples, allowed="2 or more")
    if not vectors or len(set(vectors)) != len(vectors):
        raise UsageError(argument="vectors", got=list(vectors), allowed="one or more, each once")
    checked = decode_text(text)
    chosen = archive_recipe(recipe, steps, lm)
    growing = chosen.for_horizon()
    tokenized = tokenize(checked, lm)
    n = len(tokenized.ids)
    cuts = [chunk_plan(lm, n, k, None, seed) for k in vectors]
    if measured is not None and not measured.keys() >= set(vectors):
        raise UsageError(argument="measured", got=sorted(measured), allowed="chunks of every K")
    if measured is None:
        for k in vectors:
            _check_long_enough(n, samples, k, usual_chunk_tokens(lm.input_width, lm.vocab_size, k))
        engine = Engine(lm, growing, compute_dtype=compute_dtype, compile_trunk=compile_trunk)
        measured = _measure(engine, tokenized.ids, cuts, samples, on_poll)
    data = checked.encode()
    computed = choose_compute_dtype(lm, compute_dtype)
    source = _Source(lm, chosen, data, tokenized, computed, compile_trunk)
    plans = tuple(source.plan(cut, measured[cut.vectors]) for cut in cuts)
    bound = capacity_bound(lm.input_width, lm.vocab_size, bits=16)
    return TextPlan(len(data), n, bound, plans)


def _check_long_enough(n_tokens: int, samples: int, vectors: int, usual: int) -> None:
    if n_tokens < samples * usual:
        raise TextError(
            f"{n_tokens} tokens are too few to plan from {samples} chunks with K = {vectors}; "
            f"needed: {samples * usual} (use fewer samples, or run compress, which costs no more)",
            argument="text",
        )


def sample_starts(n_tokens: int, samples: int, seed: int) -> list[int]:
    """Draw the first tokens of the samples, all different: one from each of `samples` equal parts.

    Args:
        n_tokens: tokens of the text, at least `samples`.
        samples: number of samples.
        seed: of the draws.
    """
    draw = random.Random(seed)
    starts: list[int] = []
    for i in range(samples):
        drawn = int((i + draw.random()) * n_tokens / samples)
        # Where parts meet within a token, both may draw that token.
        starts.append(max(drawn, starts[-1] + 1) if starts else drawn)
    return starts


# -- measuring ----------------------------------------------------------------------------------


def _measure(
    engine: Engine,
    ids: Sequence[int],
    cuts: Sequence[ChunkPlan],
    samples: int,
    on_poll: Callable[[EngineStatus], None] | None,
) -> dict[int, list[MeasuredChunk]]:
    """Cram `samples` chunks for every K, all in one engine; return them by K."""
    tokens = torch.tensor(ids, dtype=torch.long)
    requests = {}
    for cut in cuts:
        for start in sample_starts(len(ids), samples, cut.seed):
            # A sample wraps around at the text's end, so that every token is equally likely.
            sample = tokens.roll(-start)[: _reach(cut)]
            seed = cut.seed + SEED_STRIDE * start
            key = (cut.vectors, start)
            requests[key] = CramRequest(key, sample, cut.vectors, seed)
    crammed = {one.key: one for one in engine.run(requests.values(), on_poll)}
    found: dict[int, list[MeasuredChunk]] = {cut.vectors: [] for cut in cuts}
    for key, request in requests.items():
        k, start = key
        found[k].append(_measured(engine, start, request, crammed[key]))
    return found


def _reach(cut: ChunkPlan) -> int:
    """Return the maximum tokens of a chunk: a whole stretch, or the model's positions."""
    longest = max(end - start for start, end in cut.stretches)
    return longest if cut.room is None else min(longest, cut.room)


def _measured(engine: Engine, start: int, request: CramRequest, crammed: Crammed) -> MeasuredChunk:
    """Decode a crammed chunk as an archive does, and count its corrections and guards."""
    lm = engine.lm
    n = max(1, crammed.n_correct)
    true = request.ids[:n]
    decoded = decoding.greedy(lm, [crammed.mem], [n], forced=[true])
    found = find_corrections(decoded, [true], GUARD_MARGINS[lm.dtype])
    return MeasuredChunk(
        start,
        n,
        corrections=len(found.missed),
        guards=len(found.guarded),
        steps=crammed.steps,
        token_steps=crammed.token_steps,
        budget_ended=crammed.n_correct < len(request.ids) and crammed.budget_spent,
    )


def _rate(
    usual: Engine, ids: Sequence[int], cut: ChunkPlan, found: Sequence[MeasuredChunk]
) -> tuple[float, int]:
    """Measure token-steps per second, and the number of texts per batch, as in the planned run.

    The texts are as long as the measured chunks were on average over their steps.

    Raises:
        ModelError: nothing could be timed.
    """
    lm = usual.lm
    before = lm.input_length(cut.vectors, 0)  # input positions beyond those of the tokens
    lengths = [
        max(1, min(_reach(cut), one.token_steps // (one.steps + 1) - before)) for one in found
    ]
    padded = padded_length(before + max(lengths), lm.max_positions)
    slots = min(len(cut.stretches), max(1, usual.batch_tokens // padded))
    tokens = torch.tensor(ids, dtype=torch.long)
    requests = [
        CramRequest(i, tokens.roll(-found[j].start)[: lengths[j]], cut.vectors, i)
        for i, j in ((i, i % len(found)) for i in range(slots))
    ]
    rate, together = text_steps_per_second(usual, requests, _TIMED_POLLS)
    length = sum(len(request.ids) + before for request in requests) / slots
    return length * rate, together


# -- from the chunks to the text ----------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """The text of a plan, with model and recipe."""

    lm: FrozenLM
    recipe: Recipe
    data: bytes
    tokenized: TokenizedText
    compute_dtype: torch.dtype
    compile_trunk: bool

    def plan(self, cut: ChunkPlan, found: Sequence[MeasuredChunk]) -> Plan:
        """Estimate the whole text from its measured chunks."""
        n, k = len(self.tokenized.ids), cut.vectors
        cost = text_cost(found, cut)
        usual = Engine(
            self.lm,
            self.recipe.for_horizon(),
            compute_dtype=self.compute_dtype,
            compile_trunk=self.compile_trunk,
        )
        rate, slots = _rate(usual, self.tokenized.ids, cut, found)
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
            budget_ended=sum(one.budget_ended for one in found),
        )

    def _bytes(self, cut: ChunkPlan, found: Sequence[MeasuredChunk], chunks: int) -> int:
        """Compute the size of an archive with as many chunks, and corrections as measured.

        The header is that of an empty archive: the digits of its sizes are not counted.
        """
        computed = self.compute_dtype
        settings = recorded_settings(self.recipe, self.lm, computed, self.compile_trunk)
        manifest = manifest_of(self.lm, settings, cut.seed, self.data, len(self.tokenized.ids))
        empty = {name: torch.empty(0, dtype=dtype) for name, dtype in TENSOR_DTYPES.items()}
        vectors = torch.empty(0, self.lm.input_width, dtype=self.lm.dtype)
        header = Archive(manifest, ArchiveTensors(vectors=vectors, **empty)).to_bytes()
        rows = {
            "chunk": chunks,
            "correction": round(sum(one.corrections for one in found) * chunks / len(found)),
            "guard": round(sum(one.guards for one in found) * chunks / len(found)),
            "piece": len(self.tokenized.piece_tokens),
            "raw": len(self.tokenized.raw),
        }
        columns = {name: rows[name.partition("_")[0]] for name in TENSOR_DTYPES}
        columns["raw_bytes"] = sum(len(piece.data) for piece in self.tokenized.raw)
        tables = sum(n * TENSOR_DTYPES[name].itemsize for name, n in columns.items())
        coordinates = chunks * cut.vectors * self.lm.input_width
        return len(header) + tables + coordinates * self.lm.dtype.itemsize


def text_cost(found: Sequence[MeasuredChunk], cut: ChunkPlan) -> CutCost:
    """Estimate the chunks and token-steps of a text that is cut like this, from measured chunks."""
    return cut_cost(
        [one.n_tokens for one in found],
        [one.token_steps for one in found],
        [end - start for start, end in cut.stretches],
        cut.seed,
    )


def _whole(interval: Interval) -> Interval:
    """Round to whole numbers, outwards at the ends of the interval."""
    return Interval(round(interval.expected), math.floor(interval.low), math.ceil(interval.high))
