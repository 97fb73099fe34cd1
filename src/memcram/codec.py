"""Text → archive → the same bytes."""

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch
from torch import Tensor

from memcram import decode
from memcram.archive.chunking import chunk_lengths, default_chunk_tokens
from memcram.archive.format import Archive, ArchiveTensors, Manifest, ModelRecord, TextRecord
from memcram.archive.pieces import TokenizedText, detokenize, tokenize
from memcram.engine import Crammed, Engine, EngineStatus
from memcram.errors import ArchiveError, TextError, UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.models.modes import DTYPE_NAMES
from memcram.recipes import Recipe, get_recipe
from memcram.slots import CramRequest
from memcram.strategies import Outcome

# Chunk i starts from seed + i · stride, so that neighbouring seeds share no chunk's start.
_SEED_STRIDE = 1_000_003
# Further starts for a chunk that did not come out right; a hard chunk is often a bad start.
_RESTARTS = 2


@dataclass(frozen=True)
class CodecProgress:
    """How far `compress` or `decompress` is.

    Attributes:
        chunks_done, chunks_total: chunks.
        tokens_right: tokens right so far, those of chunks in work included.
        tokens_total: all tokens.
    """

    chunks_done: int
    chunks_total: int
    tokens_right: int
    tokens_total: int


OnProgress = Callable[[CodecProgress], None]


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
    engine = Engine(lm, _recipe(recipe, steps))
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
    on_progress: OnProgress | None = None,
) -> Archive:
    """Cram a text of any length, chunk by chunk; nothing is lost.

    Args:
        text: the text, or its UTF-8 bytes.
        lm: the frozen model; its dtype is the archive's.
        vectors: K, vectors of each chunk.
        chunk_tokens: tokens of each chunk; None takes what K vectors usually hold.
        recipe: name of a recipe, or one of your own.
        steps: budget per chunk in optimiser steps; None takes the recipe's.
        seed: of the starts.
        on_progress: called as chunks advance.

    Raises:
        TextError: the text is empty or not UTF-8.
        UsageError: a number is out of range.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    chosen = _recipe(recipe, steps)
    tokenized = tokenize(decode_utf8(data), lm)
    lengths = _chunk_lengths(lm, len(tokenized.ids), vectors, chunk_tokens)
    ids = list(torch.tensor(tokenized.ids, dtype=torch.long).split(lengths))
    requests = [
        CramRequest(i, chunk, vectors, seed + _SEED_STRIDE * i) for i, chunk in enumerate(ids)
    ]
    mems = _cram_chunks(Engine(lm, chosen), requests, on_progress)
    tensors = _tensors(lm, mems, ids, tokenized)
    return Archive(_manifest(lm, chosen, seed, data, len(tokenized.ids), tensors), tensors)


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
            on_progress(CodecProgress(done, len(lengths), tokens, sum(lengths)))

    decoded = decode.greedy(lm, archive.mems, lengths, archive.forced(), on_chunk=report)
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
        ArchiveError: another model, dtype or layout; both are named.
    """
    made = archive.manifest
    if lm.identity.fingerprint != made.model.fingerprint:
        raise ArchiveError(
            f"archive: made with {made.model.id} (fingerprint {made.model.fingerprint[:12]}…), "
            f"but {lm.identity.id} has {lm.identity.fingerprint[:12]}…"
        )
    if (DTYPE_NAMES[lm.dtype], lm.layout) != (made.dtype, made.layout):
        raise ArchiveError(
            f"archive: made in {made.dtype} with layout {made.layout}, but the model is loaded in "
            f"{DTYPE_NAMES[lm.dtype]} with layout {lm.layout}"
        )


def _cram_chunks(
    engine: Engine, requests: list[CramRequest], on_progress: OnProgress | None
) -> list[Tensor]:
    """Vectors of each chunk; one that did not come out right is tried from other starts."""
    best: dict[Hashable, Crammed] = {}
    total = sum(len(request.ids) for request in requests)

    def report(status: EngineStatus) -> None:
        if on_progress is not None:
            right = sum(crammed.n_right for crammed in best.values())
            done = sum(crammed.outcome == Outcome.RIGHT for crammed in best.values())
            on_progress(CodecProgress(done, len(requests), right + status.tokens_right, total))

    todo = requests
    for attempt in range(1 + _RESTARTS):
        again = [replace(r, seed=r.seed + attempt * _SEED_STRIDE * len(requests)) for r in todo]
        for crammed in engine.run(again, report):
            before = best.get(crammed.key)
            if before is None or crammed.n_right > before.n_right:
                best[crammed.key] = crammed
        todo = [r for r in requests if best[r.key].outcome != Outcome.RIGHT]
    return [best[request.key].mem for request in requests]


def _recipe(recipe: str | Recipe, steps: int | None) -> Recipe:
    chosen = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if steps is None:
        return chosen
    if steps < 1:
        raise UsageError(f"--steps: got {steps}, allowed: 1 or more")
    return chosen.with_steps(steps)


def _chunk_lengths(lm: FrozenLM, n: int, vectors: int, chunk_tokens: int | None) -> list[int]:
    if vectors < 1:
        raise UsageError(f"--vectors: got {vectors}, allowed: 1 or more")
    room = None if lm.max_positions is None else lm.max_positions - vectors - len(lm.prefix)
    if room is not None and room < 1:
        raise UsageError(
            f"--vectors: got {vectors}, allowed: at most {vectors + room - 1} "
            f"({lm.identity.id} has {lm.max_positions} positions)"
        )
    if chunk_tokens is None:
        usual = default_chunk_tokens(lm.input_width, lm.vocab_size, vectors)
        chunk_tokens = usual if room is None else min(usual, room)
    if chunk_tokens < 1 or (room is not None and chunk_tokens > room):
        limit = "or more" if room is None else f"to {room} ({lm.max_positions} positions)"
        raise UsageError(f"--chunk-tokens: got {chunk_tokens}, allowed: 1 {limit}")
    return chunk_lengths(n, chunk_tokens)


def _tensors(
    lm: FrozenLM, mems: list[Tensor], ids: list[Tensor], tokenized: TokenizedText
) -> ArchiveTensors:
    """Decode the stored vectors along the true tokens, and note what they miss."""
    decoded = decode.greedy(lm, mems, [len(chunk) for chunk in ids], forced=ids)
    missed = [one.predicted != chunk for one, chunk in zip(decoded, ids, strict=True)]
    missed = [m | (one.margins <= 0) for m, one in zip(missed, decoded, strict=True)]
    margins = [
        one.margins.masked_fill(miss, float("inf")).amin()
        for one, miss in zip(decoded, missed, strict=True)
    ]
    joined = torch.tensor(tokenized.ids, dtype=torch.long)
    positions = torch.cat(missed).nonzero()[:, 0] if missed else torch.empty(0, dtype=torch.long)
    raw = tokenized.raw
    return ArchiveTensors(
        vectors=torch.cat(mems) if mems else torch.empty(0, lm.input_width, dtype=lm.dtype),
        chunk_vectors=torch.tensor([len(mem) for mem in mems], dtype=torch.int32),
        chunk_tokens=torch.tensor([len(chunk) for chunk in ids], dtype=torch.int32),
        chunk_margins=torch.tensor([m.item() for m in margins], dtype=torch.float32),
        correction_positions=positions,
        correction_tokens=joined[positions].to(torch.int32),
        piece_tokens=torch.tensor(tokenized.piece_tokens, dtype=torch.int64),
        raw_offsets=torch.tensor([piece.offset for piece in raw], dtype=torch.int64),
        raw_removed=torch.tensor([piece.removed for piece in raw], dtype=torch.int64),
        raw_lengths=torch.tensor([len(piece.data) for piece in raw], dtype=torch.int64),
        raw_bytes=torch.tensor(list(b"".join(piece.data for piece in raw)), dtype=torch.uint8),
    )


def _manifest(
    lm: FrozenLM, recipe: Recipe, seed: int, data: bytes, tokens: int, tensors: ArchiveTensors
) -> Manifest:
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
        tensors_sha256=tensors.sha256(),
    )
