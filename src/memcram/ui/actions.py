"""Cram a text, decode an archive and export an adapter for the page."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from memcram.archive import Archive
from memcram.archive.pieces import tokenize
from memcram.compression.chunks import CodecProgress, cram_chunks
from memcram.compression.codec import compress, get_recipe_with
from memcram.compression.verify import decode_archive
from memcram.errors import MemcramError
from memcram.export import export
from memcram.files import ARCHIVE_SUFFIX
from memcram.models import FrozenLM, decoding
from memcram.models.decoding import Decoded
from memcram.recipes import RECIPES
from memcram.report.explain import TokenView, token_pieces, view_of_decoded
from memcram.ui.jobs import Job


@dataclass(frozen=True)
class Growing:
    """A text while it is crammed.

    Attributes:
        pieces: text of each token.
        held: whether each token is held; the first ones without a gap are the exact prefix.
        prefix: tokens of that prefix.
        loss: mean loss of the chunk at its end, None before there is one.
        min_margin: smallest margin of that chunk, in logits.
        tokens_per_second: tokens held per second since the start.
        chunks_done: finished chunks.
    """

    pieces: Sequence[str]
    held: Sequence[bool]
    prefix: int
    loss: float | None
    min_margin: float | None
    tokens_per_second: float
    chunks_done: int


@dataclass(frozen=True)
class Opened:
    """An archive, decoded.

    Attributes:
        name: of its file.
        archive: the archive.
        text: the restored text.
        view: its tokens.
        decoded: text of each token when the vectors alone are decoded, without corrections.
        first_difference: the first token that decodes wrongly; None if all are exact.
        seconds: that cramming or decoding took.
        all_tokens: of the text that was to be crammed; None if an archive was only opened.
    """

    name: str
    archive: Archive
    text: str
    view: TokenView
    decoded: Sequence[str]
    first_difference: int | None
    seconds: float
    all_tokens: int | None = None


def recipe_names() -> list[str]:
    """The recipes that predict the first token, and find the length of a chunk."""
    return [
        name
        for name, recipe in RECIPES.items()
        if not recipe.first_token_given and recipe.horizon is not None
    ]


def cram_text(text: str, lm: FrozenLM, vectors: int, recipe: str, job: Job[Growing, Any]) -> Opened:
    """Cram a text, and decode the archive.

    Args:
        text: the text.
        lm: the model.
        vectors: K, per chunk.
        recipe: name of a recipe.
        job: gets the progress, and says when to stop and keep what is held.

    Raises:
        MemcramError: as `compress` raises.
        Cancelled: nobody waits for the result.
    """
    began = time.monotonic()
    chosen = get_recipe_with(recipe, None)
    pieces = token_pieces(lm.detokenize, tokenize(text, lm).ids)

    def report(progress: CodecProgress) -> None:
        job.check()
        job.report(growing(pieces, progress, time.monotonic() - began))

    crammer = partial(cram_chunks, stop=job.is_stopped)
    archive = compress(
        text, lm, vectors=vectors, recipe=chosen, on_progress=report, crammer=crammer
    )
    return _opened("text" + ARCHIVE_SUFFIX, archive, lm, job, began, len(pieces))


def open_archive(name: str, archive: Archive, lm: FrozenLM, job: Job[Growing, Any]) -> Opened:
    """Decode an archive.

    Raises:
        ArchiveError: it was made with another model, or does not decode to its text.
        Cancelled: nobody waits for the result.
    """
    return _opened(name, archive, lm, job, time.monotonic(), None)


def growing(pieces: Sequence[str], progress: CodecProgress, seconds: float) -> Growing:
    """Describe the progress of a text.

    Args:
        pieces: text of each token.
        progress: what `compress` reports.
        seconds: since the start.
    """
    held = [False] * len(pieces)
    spans = [*progress.held, *((one.start, one.start + one.n_correct) for one in progress.active)]
    for start, end in spans:
        held[start:end] = [True] * (end - start)
    prefix = held.index(False) if False in held else len(held)
    at_end = [one for one in progress.active if one.start <= prefix]
    last = max(at_end, key=lambda one: one.start, default=None)
    return Growing(
        pieces=pieces,
        held=held,
        prefix=prefix,
        loss=None if last is None else last.loss,
        min_margin=None if last is None else last.min_margin,
        tokens_per_second=sum(held) / max(seconds, 1e-9),
        chunks_done=progress.chunks_done,
    )


def _opened(
    name: str,
    archive: Archive,
    lm: FrozenLM,
    job: Job[Growing, Any],
    began: float,
    all_tokens: int | None,
) -> Opened:
    data, decoded = decode_archive(archive, lm, lambda _: job.check())
    seconds = time.monotonic() - began
    job.check()
    view = view_of_decoded(archive, lm, name, decoded)
    first = first_difference(decoded)
    ids = torch.cat([torch.empty(0, dtype=torch.long), *(one.ids for one in decoded)])
    if first is not None:
        alone = decoding.greedy(lm, archive.mems, archive.chunk_tokens)
        ids = torch.cat([one.ids for one in alone])
    pieces = token_pieces(lm.detokenize, ids.tolist())
    return Opened(name, archive, data.decode(), view, pieces, first, seconds, all_tokens)


def first_difference(decoded: Sequence[Decoded]) -> int | None:
    """Find the first token that the vectors alone do not decode, or None."""
    at = 0
    for one in decoded:
        wrong = (one.predicted != one.ids).nonzero()
        if len(wrong):
            return at + int(wrong[0])
        at += len(one.ids)
    return None


def write_files(opened: Opened, lm: FrozenLM, folder: Path) -> tuple[Path, Path | None, str]:
    """Write the files that a visitor can download.

    Args:
        opened: the archive.
        lm: its model.
        folder: new, and only for these files.

    Returns:
        The archive, the zipped adapter of PEFT or None, and why there is none.
    """
    path = folder / opened.name
    opened.archive.write(path)
    adapter = folder / f"{opened.name.removesuffix(ARCHIVE_SUFFIX)}-peft"
    try:
        export(opened.archive, lm, "peft", adapter)
    except MemcramError as error:
        return path, None, error.problem or str(error)
    return path, Path(shutil.make_archive(str(adapter), "zip", folder, adapter.name)), ""
