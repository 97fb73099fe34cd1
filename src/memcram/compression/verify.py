"""Decode archives, check the result, and measure margins."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memcram.archive.format import Archive
from memcram.archive.pieces import LeadingText, detokenize
from memcram.compression.chunks import CodecProgress, OnProgress
from memcram.errors import ArchiveError
from memcram.models import decoding
from memcram.models.decoding import Decoded
from memcram.models.frozen_lm import FrozenLM
from memcram.models.modes import DTYPE_NAMES


@dataclass(frozen=True)
class Verification:
    """Result of decoding an archive on this machine.

    Attributes:
        chunks: all chunks.
        chunks_exact: chunks that free-running decoding returns without any correction.
        tokens_corrected: corrections stored in the archive.
        tokens_guarded: guards stored in the archive.
        min_margin: smallest margin (logits) over uncorrected tokens, on this machine.
        max_margin_shift: largest change of a chunk's smallest margin against the stored one.
    """

    chunks: int
    chunks_exact: int
    tokens_corrected: int
    tokens_guarded: int
    min_margin: float | None
    max_margin_shift: float | None


def verify(
    archive: Archive | str | Path, lm: FrozenLM, on_progress: OnProgress | None = None
) -> Verification:
    """Decode an archive free-running, compare its SHA-256, and measure its margins.

    Args:
        archive: the archive, or the path of its file.
        lm: the model it was made with.
        on_progress: called as chunks are decoded.

    Raises:
        ArchiveError: the file is not an archive, it was made with another model, or decoding does
            not restore the text.
    """
    archive = open_archive(archive)
    _, decoded = decode_archive(archive, lm, on_progress)
    summary = archive.summary()
    smallest = [
        one.margins.masked_fill(force >= 0, float("inf")).amin().item()
        for one, force in zip(decoded, archive.forced(), strict=True)
    ]
    stored = archive.tensors.chunk_margins.tolist()
    shifts = [abs(a - b) for a, b in zip(smallest, stored, strict=True) if b < float("inf")]
    finite = [margin for margin in smallest if margin < float("inf")]
    return Verification(
        chunks=len(decoded),
        chunks_exact=summary["chunks_exact"],
        tokens_corrected=summary["tokens_corrected"],
        tokens_guarded=summary["tokens_guarded"],
        min_margin=min(finite, default=None),
        max_margin_shift=max(shifts, default=None),
    )


def open_archive(archive: Archive | str | Path) -> Archive:
    """Return an archive, or read it from a path."""
    return archive if isinstance(archive, Archive) else Archive.read(archive)


def decode_archive(
    archive: Archive, lm: FrozenLM, on_progress: OnProgress | None = None
) -> tuple[bytes, list[Decoded]]:
    """Return the restored bytes of an archive, and its decoded chunks.

    Raises:
        ArchiveError: made with another model, or the restored bytes are not the original ones.
    """
    found = dict(decode_chunks(archive, lm, on_progress))
    decoded = [found[i] for i in range(len(found))]
    return _checked(archive, decoded, lm, "nothing was written"), decoded


def restore(
    archive: Archive, lm: FrozenLM, on_progress: OnProgress | None = None
) -> Iterator[bytes]:
    """Yield the original bytes as leading chunks finish, while others are still being decoded.

    The last chunk's bytes come once all are checked. `decompress` returns nothing unchecked.

    Args:
        archive: the archive.
        lm: the model it was made with.
        on_progress: called as chunks are decoded.

    Raises:
        ArchiveError: made with another model, or the restored bytes are not the original ones.
    """
    text = LeadingText(archive.tensors.piece_tokens.tolist(), archive.raw_pieces, lm)
    found: dict[int, Decoded] = {}
    leading, given = 0, b""
    for i, one in decode_chunks(archive, lm, on_progress):
        found[i] = one
        part = b""
        while leading in found and leading < len(archive.chunk_tokens) - 1:
            part += text.add(found[leading].ids.tolist())
            leading += 1
        if part:
            given += part
            yield part
    consequence = "the text before this is wrong" if given else "nothing was written"
    data = _checked(archive, [found[i] for i in range(len(found))], lm, consequence)
    if not data.startswith(given):
        raise ArchiveError(
            f"the tokenizer of {lm.identity.id} changes earlier text when tokens follow, so the "
            "text can't be restored in parts",
            argument="archive",
        )
    if rest := data[len(given) :]:
        yield rest


def decode_chunks(
    archive: Archive, lm: FrozenLM, on_progress: OnProgress | None = None
) -> Iterator[tuple[int, Decoded]]:
    """Yield each chunk's index and result once it is finished; nothing is compared.

    Raises:
        ArchiveError: made with another model.
    """
    check_model(archive, lm)
    lengths = archive.chunk_tokens
    chunks = tokens = 0
    for i, decoded in decoding.stream(lm, archive.mems, lengths, archive.forced()):
        chunks, tokens = chunks + 1, tokens + lengths[i]
        if on_progress is not None:
            on_progress(CodecProgress(chunks, tokens, sum(lengths)))
        yield i, decoded


def _checked(archive: Archive, decoded: Sequence[Decoded], lm: FrozenLM, consequence: str) -> bytes:
    """Convert decoded chunks to the bytes of the text.

    Raises:
        ArchiveError: they are not the original ones.
    """
    ids = [token for chunk in decoded for token in chunk.ids.tolist()]
    try:
        data = detokenize(ids, archive.tensors.piece_tokens.tolist(), archive.raw_pieces, lm)
    except ValueError as error:
        raise ArchiveError(f"inconsistent ({error})", argument="archive") from error
    found, promised = hashlib.sha256(data).hexdigest(), archive.manifest.text.sha256
    if found != promised:
        raise ArchiveError(
            f"the decoded text has SHA-256 {found[:12]}…, the archive states {promised[:12]}…; "
            f"{consequence}",
            argument="archive",
        )
    return data


def check_model(archive: Archive, lm: FrozenLM) -> None:
    """Refuse a model that is not the one an archive was made with.

    Raises:
        ArchiveError: another width, vocabulary, model, dtype or layout; both are named.
    """
    made, own = archive.manifest, lm.identity
    shape = f"width {made.model.input_width}, vocabulary {made.model.vocab_size}"
    own_shape = f"width {lm.input_width}, vocabulary {lm.vocab_size}"
    if own_shape != shape:
        raise _other_model(f"made with {made.model.id} ({shape}), but {own.id} has {own_shape}")
    if not own.matches(made.model.fingerprint):
        raise _other_model(
            f"made with {made.model.id} (fingerprint {made.model.fingerprint[:12]}…), "
            f"but {own.id} has {own.fingerprint[:12]}…"
        )
    if (DTYPE_NAMES[lm.dtype], lm.layout) != (made.dtype, made.layout):
        raise _other_model(
            f"made in {made.dtype} with layout {made.layout}, but the model is loaded in "
            f"{DTYPE_NAMES[lm.dtype]} with layout {lm.layout}"
        )
    lengths = zip(archive.tensors.chunk_vectors.tolist(), archive.chunk_tokens, strict=True)
    longest = max((lm.input_length(k, n) for k, n in lengths), default=0)
    if lm.max_positions is not None and longest > lm.max_positions:
        raise _other_model(f"a chunk needs {longest} positions, {own.id} has {lm.max_positions}")


def _other_model(problem: str) -> ArchiveError:
    return ArchiveError(problem, argument="archive")
