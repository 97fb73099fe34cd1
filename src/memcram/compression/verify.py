"""Decode an archive on this machine, and measure its margins."""

from dataclasses import dataclass
from pathlib import Path

from memcram.archive.format import Archive
from memcram.compression.chunks import OnProgress
from memcram.compression.codec import decode_archive, open_archive
from memcram.models.frozen_lm import FrozenLM


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
        ArchiveError: the file is not an archive, it was made with another model, or the text does
            not come back.
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
