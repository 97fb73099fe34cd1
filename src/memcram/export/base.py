"""Interface of an exporter, and the check that all exporters share."""

import hashlib
from pathlib import Path
from typing import Protocol

from memcram.archive.format import Archive
from memcram.archive.pieces import detokenize
from memcram.compression.verify import check_model
from memcram.errors import ArchiveError, UsageError
from memcram.models import decoding
from memcram.models.frozen_lm import FrozenLM


class Exporter(Protocol):
    """Writes an archive's vectors in the form that another program reads."""

    @property
    def name(self) -> str:
        """Name of the program, as the command line takes it."""

    def check(self, archive: Archive, target: FrozenLM) -> None:
        """Refuse an archive that the program would decode to another text.

        Args:
            archive: the archive to export.
            target: the model that the program runs.

        Raises:
            UsageError: the archive was made with another model, dtype or layout, or the format
                can't express what decoding needs.
        """

    def write(self, archive: Archive, target: FrozenLM, folder: Path) -> None:
        """Write all files into `folder`, which exists and is empty.

        Raises:
            UsageError: the program itself decodes the files to another text.
        """


def check_same_model(archive: Archive, target: FrozenLM) -> None:
    """Refuse a model that is not the one an archive was made with.

    Raises:
        UsageError: another model, dtype or layout; the archive itself may be good.
    """
    try:
        check_model(archive, target)
    except ArchiveError as error:
        raise UsageError(error.problem, argument=error.argument) from error


def check_plain_decoding(archive: Archive, target: FrozenLM) -> None:
    """Refuse an archive whose vectors alone do not decode to its text.

    Programs other than memcram load whole models, and apply no corrections, guards or raw pieces.
    All chunks are decoded.

    Raises:
        UsageError: the archive was made with another model, dtype or layout, decoding misses a
            token, the text needs raw pieces, or the model was loaded with only its first layers or
            with autocast.
    """
    check_same_model(archive, target)
    if target.identity.layers is not None or target.autocast is not None:
        changed = "autocast" if target.autocast is not None else "only its first layers"
        raise UsageError(
            f"{target.identity.id} was loaded with {changed}, but other programs load the whole "
            "model in one dtype and would decode to another text",
            argument="target",
        )
    if archive.raw_pieces:
        raise UsageError(
            "the tokenizer does not round-trip this text, and only memcram restores the "
            f"{len(archive.tensors.raw_bytes)} raw bytes; the export would decode to another text",
            argument="archive",
        )
    decoded = decoding.greedy(target, archive.mems, archive.chunk_tokens, archive.forced())
    wrong = sum(int((one.predicted != one.ids).sum()) for one in decoded)
    if wrong:
        raise UsageError(
            f"decoding misses {wrong} tokens, and only memcram applies corrections; the export "
            "would decode to another text",
            argument="archive",
        )
    ids = [token for one in decoded for token in one.ids.tolist()]
    text = detokenize(ids, archive.tensors.piece_tokens.tolist(), [], target)
    if hashlib.sha256(text).hexdigest() != archive.manifest.text.sha256:
        raise UsageError("the vectors decode to another text", argument="archive")
