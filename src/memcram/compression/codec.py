"""Text → archive → the same bytes."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memcram.archive.corrections import GUARD_MARGINS, find_corrections
from memcram.archive.format import Archive, ArchiveTensors, Manifest, ModelRecord, TextRecord
from memcram.archive.partial import Chunk, PartialArchive
from memcram.archive.pieces import TokenizedText, detokenize, tokenize
from memcram.compression.chunking import stretches, usual_chunk_tokens
from memcram.compression.chunks import ChunkPlan, CodecProgress, OnProgress, cram_chunks
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.errors import ArchiveError, Interrupted, TextError, UsageError
from memcram.models import decoding
from memcram.models.frozen_lm import FrozenLM
from memcram.models.modes import DTYPE_NAMES
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.recipe import Recipe

# Where chunks are cut to fit, a text is worked on in stretches of about this many chunks, side by
# side; the last chunk of each stretch is shorter than its vectors could hold.
_STRETCH_CHUNKS = 8


def decode_utf8(data: bytes, name: str = "text") -> str:
    """Text of UTF-8 bytes.

    Raises:
        TextError: the bytes are empty or not UTF-8; names the offset of the first bad byte.
    """
    if not data:
        raise TextError(f"{name}: the text is empty")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = data[error.start]
        raise TextError(f"{name}: not UTF-8 (byte 0x{bad:02x} at offset {error.start})") from error


def cram(
    text: str,
    lm: FrozenLM,
    *,
    vectors: int = 1,
    recipe: str | Recipe = "default",
    steps: int | None = None,
    seed: int = 0,
) -> Crammed:
    """Cram one text into K vectors, without chunks or corrections.

    Example:
        >>> import memcram
        >>> lm = memcram.load_lm("pocket")
        >>> crammed = memcram.cram("It was a dark night", lm)
        >>> ids = lm.generate(crammed.mem, n_tokens=len(crammed.margins))
        >>> lm.detokenize(ids.tolist())
        'It was a dark night'
    """
    ids = torch.tensor(lm.tokenize(text), dtype=torch.long)
    engine = Engine(lm, get_recipe_with(recipe, steps))
    return next(engine.run([CramRequest("text", ids, vectors, seed)]))


def compress(
    text: str | bytes,
    lm: FrozenLM,
    *,
    vectors: int = 1,
    chunk_tokens: int | None = None,
    recipe: str | Recipe = "default",
    steps: int | None = None,
    seed: int = 0,
    partial: Path | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Archive:
    """Cram a text of any length, chunk by chunk; nothing is lost.

    Args:
        text: the text, or its UTF-8 bytes.
        lm: the frozen model; its dtype is the archive's.
        vectors: K, vectors of each chunk.
        chunk_tokens: tokens of each chunk; None cuts the text where the vectors are full.
        recipe: name of a recipe, or one of your own.
        steps: budget in optimiser steps of each start of a chunk; None takes the recipe's. With
            `chunk_tokens` a chunk that is not right is begun anew, up to three times.
        seed: of the starts.
        partial: folder that keeps finished chunks while the work goes on (`NAME.partial`); the
            same call with the same folder goes on from there. The caller removes it once the
            archive is written. None keeps nothing.
        force: drop what a run with other settings left in `partial`.
        on_progress: called as chunks advance.

    Raises:
        TextError: the text is empty or not UTF-8.
        UsageError: a number is out of range, `partial` holds a run with other settings, or another
            process writes there.
        Interrupted: Ctrl-C; says how many chunks are kept.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    chosen = archive_recipe(recipe, steps, lm)
    tokenized = tokenize(decode_utf8(data), lm)
    ids = torch.tensor(tokenized.ids, dtype=torch.long)
    plan = chunk_plan(lm, len(ids), vectors, chunk_tokens, seed)
    job = _job(lm, chosen, plan, data)
    keeper = PartialArchive(partial, job, force=force) if partial is not None else None
    finished = [chunk for chunk in keeper.load() if _fits(chunk, plan, lm)] if keeper else []
    chunks = {chunk.start: chunk for chunk in finished}

    def report(progress: CodecProgress) -> None:
        if keeper:
            keeper.flush_if_due()
        if on_progress is not None:
            on_progress(progress)

    try:
        for chunk in cram_chunks(lm, chosen, ids, plan, finished, report):
            chunks[chunk.start] = chunk
            if keeper:
                keeper.add(chunk)
    except KeyboardInterrupt as error:
        kept = f"{len(chunks)} chunks are kept in {str(partial)!r}; run it again to go on"
        raise Interrupted(kept if keeper and chunks else "nothing was written") from error
    finally:
        if keeper:
            keeper.close()
    ordered = [chunks[start] for start in _in_order(chunks)]
    tensors = _tensors(lm, ordered, ids, tokenized)
    return Archive(manifest_of(lm, chosen, seed, data, len(ids), tensors.sha256()), tensors)


def decompress(archive: Archive, lm: FrozenLM, on_progress: OnProgress | None = None) -> bytes:
    """Decode an archive, free-running, to the bytes that went in.

    Raises:
        ArchiveError: the archive was made with another model, or the bytes are not those that
            went in.
    """
    check_model(archive, lm)
    lengths = archive.chunk_tokens
    done = 0

    def report(chunks: int) -> None:
        nonlocal done
        done += chunks
        if on_progress is not None:
            tokens = sum(lengths) * done // len(lengths)
            on_progress(CodecProgress(done, tokens, sum(lengths)))

    decoded = decoding.greedy(lm, archive.mems, lengths, archive.forced(), on_chunk=report)
    ids = [token for chunk in decoded for token in chunk.ids.tolist()]
    try:
        data = detokenize(ids, archive.tensors.piece_tokens.tolist(), archive.raw_pieces, lm)
    except ValueError as error:
        raise ArchiveError(f"archive: inconsistent ({error})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != archive.manifest.text.sha256:
        raise ArchiveError(
            f"archive: the decoded text has SHA-256 {found[:12]}…, the archive promises "
            f"{archive.manifest.text.sha256[:12]}…; nothing was written"
        )
    return data


def check_model(archive: Archive, lm: FrozenLM) -> None:
    """Refuse a model that is not the one an archive was made with.

    Raises:
        ArchiveError: another width, vocabulary, model, dtype or layout; both are named.
    """
    made = archive.manifest
    shape, own = (made.model.input_width, made.model.vocab_size), (lm.input_width, lm.vocab_size)
    if own != shape:
        raise ArchiveError(
            f"archive: made with {made.model.id}, width {shape[0]} and {shape[1]} tokens in the "
            f"vocabulary, but {lm.identity.id} has {own[0]} and {own[1]}"
        )
    if not lm.identity.matches(made.model.fingerprint):
        raise ArchiveError(
            f"archive: made with {made.model.id} (fingerprint {made.model.fingerprint[:12]}…), "
            f"but {lm.identity.id} has {lm.identity.fingerprint[:12]}…"
        )
    if (DTYPE_NAMES[lm.dtype], lm.layout) != (made.dtype, made.layout):
        raise ArchiveError(
            f"archive: made in {made.dtype} with layout {made.layout}, but the model is loaded in "
            f"{DTYPE_NAMES[lm.dtype]} with layout {lm.layout}"
        )
    lengths = zip(archive.tensors.chunk_vectors.tolist(), archive.chunk_tokens, strict=True)
    longest = max((lm.input_length(k, n) for k, n in lengths), default=0)
    if lm.max_positions is not None and longest > lm.max_positions:
        raise ArchiveError(
            f"archive: a chunk needs {longest} positions, {lm.identity.id} has {lm.max_positions}"
        )


def get_recipe_with(recipe: str | Recipe, steps: int | None) -> Recipe:
    """The recipe of that name, or the one given, with another budget unless `steps` is None.

    Raises:
        UsageError: there is no such recipe, or the budget is not positive.
    """
    chosen = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if steps is None:
        return chosen
    if steps < 1:
        raise UsageError(f"--steps: got {steps}, allowed: 1 or more")
    return chosen.with_steps(steps)


def archive_recipe(recipe: str | Recipe, steps: int | None, lm: FrozenLM) -> Recipe:
    """The recipe as archives are made with it: with room for other machines' rounding.

    Raises:
        UsageError: there is no such recipe, or an archive could not be read back.
    """
    chosen = get_recipe_with(recipe, steps).for_one_text()
    if lm.autocast is not None:
        raise UsageError(f"autocast: got {lm.dtype_name}, allowed for archives: none")
    # Twice the guard margin, so that guards stay the exception.
    return chosen.with_margin(2 * GUARD_MARGINS[lm.dtype])


def chunk_plan(
    lm: FrozenLM, n: int, vectors: int, chunk_tokens: int | None, seed: int
) -> ChunkPlan:
    """How `compress` cuts a text of `n` tokens.

    Raises:
        UsageError: K or the chunk length is out of range.
    """
    room = lm.room(vectors)
    if chunk_tokens is not None and (chunk_tokens < 1 or (room or chunk_tokens) < chunk_tokens):
        limit = "or more" if room is None else f"to {room} ({lm.max_positions} positions)"
        raise UsageError(f"--chunk-tokens: got {chunk_tokens}, allowed: 1 {limit}")
    usual = usual_chunk_tokens(lm.input_width, lm.vocab_size, vectors)
    longest = _STRETCH_CHUNKS * usual if chunk_tokens is None else chunk_tokens
    return ChunkPlan(vectors, stretches(n, longest), chunk_tokens is None, room, seed)


def _job(lm: FrozenLM, recipe: Recipe, plan: ChunkPlan, data: bytes) -> dict[str, Any]:
    """Everything the vectors of a run depend on."""
    return {
        "memcram": version("memcram"),
        "model": lm.identity.fingerprint,
        "dtype": DTYPE_NAMES[lm.dtype],
        "layout": lm.layout,
        "recipe": recipe.settings(),
        "text": hashlib.sha256(data).hexdigest(),
        "plan": asdict(plan),
    }


def _fits(chunk: Chunk, plan: ChunkPlan, lm: FrozenLM) -> bool:
    """Whether a chunk found on disk can be one of this plan; others are crammed again."""
    shape, mem = (plan.vectors, lm.input_width), chunk.mem
    if mem.shape != shape or mem.dtype != lm.dtype or not bool(mem.isfinite().all()):
        return False
    end = chunk.start + chunk.n_tokens
    return chunk.n_tokens > 0 and any(
        first <= chunk.start and end <= last for first, last in plan.stretches
    )


def _in_order(chunks: dict[int, Chunk]) -> Iterator[int]:
    """Starts of the chunks that follow one another from the text's first token."""
    start = 0
    while start in chunks:
        yield start
        start += chunks[start].n_tokens


def _tensors(
    lm: FrozenLM, chunks: list[Chunk], ids: Tensor, tokenized: TokenizedText
) -> ArchiveTensors:
    """Decode the stored vectors along the true tokens, and note what they miss."""
    lengths = [chunk.n_tokens for chunk in chunks]
    mems = [chunk.mem for chunk in chunks]
    true = list(ids.split(lengths))
    decoded = decoding.greedy(lm, mems, lengths, forced=true)
    found = find_corrections(decoded, true, GUARD_MARGINS[lm.dtype])
    raw = tokenized.raw
    return ArchiveTensors(
        vectors=torch.cat(mems) if mems else torch.empty(0, lm.input_width, dtype=lm.dtype),
        chunk_vectors=torch.tensor([len(mem) for mem in mems], dtype=torch.int32),
        chunk_tokens=torch.tensor(lengths, dtype=torch.int32),
        chunk_margins=found.margins,
        correction_positions=found.missed,
        correction_tokens=ids[found.missed].to(torch.int32),
        guard_positions=found.guarded,
        guard_tokens=ids[found.guarded].to(torch.int32),
        piece_tokens=torch.tensor(tokenized.piece_tokens, dtype=torch.int64),
        raw_offsets=torch.tensor([piece.offset for piece in raw], dtype=torch.int64),
        raw_removed=torch.tensor([piece.removed for piece in raw], dtype=torch.int64),
        raw_lengths=torch.tensor([len(piece.data) for piece in raw], dtype=torch.int64),
        raw_bytes=torch.tensor(list(b"".join(piece.data for piece in raw)), dtype=torch.uint8),
    )


def manifest_of(
    lm: FrozenLM, recipe: Recipe, seed: int, data: bytes, tokens: int, tensors_sha256: str
) -> Manifest:
    """The manifest of an archive made here and now."""
    identity = lm.identity
    packages = ("memcram", "torch", "transformers", "tokenizers", "safetensors")
    return Manifest(
        model=ModelRecord(
            id=identity.id,
            revision=identity.revision,
            fingerprint=identity.fingerprint,
            input_width=lm.input_width,
            vocab_size=lm.vocab_size,
        ),
        text=TextRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), tokens=tokens),
        dtype=DTYPE_NAMES[lm.dtype],
        layout=lm.layout,
        recipe=recipe.settings(),
        seed=seed,
        versions={name: version(name) for name in packages},
        tensors_sha256=tensors_sha256,
    )
