"""Compress a text to an archive, and decompress it to the same bytes."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memcram.archive.corrections import GUARD_MARGINS
from memcram.archive.format import MAX_CHUNK_TOKENS, Archive
from memcram.archive.partial import Chunk, PartialArchive
from memcram.archive.pieces import leading, tokenize
from memcram.compression.chunks import (
    ChunkCrammer,
    ChunkPlan,
    CodecProgress,
    OnProgress,
    cram_chunks,
    fits,
    in_order,
    stretches,
    usual_chunk_tokens,
)
from memcram.compression.contents import manifest_of, storage_of, tensors_of
from memcram.compression.initial import InitialVectors, initial_vectors
from memcram.compression.verify import decode_archive, open_archive
from memcram.engine.batch import CramRequest
from memcram.engine.compute import (
    ComputeDtype,
    choose_compute_dtype,
    recorded_settings,
    trunk_of,
)
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.errors import Interrupted, TextError, UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.models.modes import DTYPE_NAMES
from memcram.quantisation import Store, check_store
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.recipe import Recipe

# Where chunks are cut to fit, stretches of about this many chunks are crammed side by side; the
# last chunk of each stretch is shorter than its vectors could hold.
_STRETCH_CHUNKS = 8


def decode_text(text: str | bytes, name: str | None = None, argument: str = "text") -> str:
    """Decode a text to a string, and check it.

    Args:
        text: the text, or its UTF-8 bytes.
        name: where it was read from, for errors.
        argument: its name in errors.

    Raises:
        TextError: it is empty or not UTF-8; names the offset of the first bad byte.
    """
    subject = "the text" if name is None else repr(name)
    if not text:
        raise TextError(f"{subject} is empty", argument=argument)
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise TextError(f"{subject} is not UTF-8 ({bad})", argument=argument) from error


def cram(
    text: str,
    lm: FrozenLM,
    *,
    vectors: int = 1,
    recipe: str | Recipe = "default",
    steps: int | None = None,
    seed: int = 0,
    compute_dtype: ComputeDtype = "auto",
    compile_trunk: bool = False,
    init: Archive | str | Path | None = None,
    prefix_tokens: int = 0,
) -> Crammed:
    """Cram one text into K vectors, without chunks or corrections.

    Args:
        text: the text.
        lm: the frozen model.
        vectors: K.
        recipe: name of a recipe, or a recipe of your own.
        steps: budget in optimiser steps; None: the recipe's.
        seed: of the init.
        compute_dtype: of the trunk while optimising, as for `Engine`.
        compile_trunk: as for `Engine`.
        init: an archive, or the path of its file; the vectors of its first chunk are the initial
            ones.
        prefix_tokens: the text's first tokens that are visible: they are fed between `[mem]` and
            the rest, which alone is crammed and counted.

    Raises:
        TextError: the text is empty, not UTF-8, or can't be tokenized for this model.
        UsageError: a number is out of range, or `init` does not fit the model, K or the recipe.
        ArchiveError: `init` is not an archive, or is damaged.

    Examples:
        >>> import memcram
        >>> lm = memcram.load_lm("pocket")
        >>> crammed = memcram.cram("It was a dark night", lm)
        >>> ids = lm.generate(crammed.mem, n_tokens=len(crammed.margins))
        >>> lm.detokenize(ids.tolist())
        'It was a dark night'
    """
    ids = torch.tensor(lm.tokenize(decode_text(text)), dtype=torch.long)
    chosen = get_recipe_with(recipe, steps)
    engine = Engine(lm, chosen, compute_dtype=compute_dtype, compile_trunk=compile_trunk)
    mem = None if init is None else initial_vectors(init, lm, chosen, vectors).mems[0]
    if not 0 <= prefix_tokens <= max(0, len(ids) - 1):
        allowed = f"0 to {max(0, len(ids) - 1)} for a text of {len(ids)} tokens"
        raise UsageError(argument="prefix_tokens", got=prefix_tokens, allowed=allowed)
    visible, rest = ids[:prefix_tokens], ids[prefix_tokens:]
    return next(engine.run([CramRequest("text", rest, vectors, seed, init=mem, prefix=visible)]))


def compress(
    text: str | bytes,
    lm: FrozenLM,
    *,
    vectors: int = 1,
    chunk_tokens: int | None = None,
    recipe: str | Recipe = "default",
    steps: int | None = None,
    margin: float | None = None,
    store: Store | None = None,
    seed: int = 0,
    compute_dtype: ComputeDtype = "auto",
    compile_trunk: bool = False,
    init: Archive | str | Path | None = None,
    partial: Path | None = None,
    force: bool = False,
    on_progress: OnProgress | None = None,
    crammer: ChunkCrammer | None = None,
) -> Archive:
    """Cram a text of any length, chunk by chunk, without loss.

    Args:
        text: the text, or its UTF-8 bytes.
        lm: the frozen model; its dtype is the archive's.
        vectors: K, vectors of each chunk.
        chunk_tokens: tokens of each chunk; None cuts the text where the vectors are full.
        recipe: name of a recipe, or a recipe of your own.
        steps: budget in optimiser steps of each chunk and each restart; None: the recipe's. With
            `chunk_tokens` a chunk that is not exact is restarted up to three times.
        margin: optimise until every token's margin exceeds this many logits, for programs whose
            logits differ; None: what other machines need.
        store: precision in which the vectors are stored; `least`: the fewest bits per dimension
            that hold the chunk, from 1 to 8, 16 or 32; None: the model's dtype. A chunk that does
            not fit is cut shorter, or with `chunk_tokens` gets corrections.
        seed: of the inits.
        compute_dtype: of the trunk while optimising, as for `Engine`.
        compile_trunk: as for `Engine`.
        init: an archive made with this model, or the path of its file. Each chunk starts from the
            first K vectors of the archive's chunk at the same token: with the same cuts, chunk i
            from chunk i. Chunks after the archive's last token, and restarts, start from the
            recipe's init.
        partial: folder that keeps finished chunks while the work is in progress (`NAME.partial`);
            the same call with the same folder resumes there. The caller removes it once the
            archive is written. None keeps nothing.
        force: drop what a run with other settings left in `partial`.
        on_progress: called as chunks advance.
        crammer: who crams the chunks, such as `memcram.distributed.chunks.RayChunks`; None: this
            process. If it ends early, as `cram_chunks` does where it is told to stop, the archive
            has the text's first tokens, as far as they are held without a gap.

    Raises:
        TextError: the text is empty or not UTF-8.
        UsageError: a number is out of range, the archive could not record the model's name,
            `init` does not fit the model, K or the recipe, or `partial` can't be created, holds a
            run with other settings or is being written by another process.
        ArchiveError: `init` is not an archive, or is damaged.
        Interrupted: Ctrl-C; says how many chunks are kept.
    """
    checked = decode_text(text)
    data = checked.encode()
    chosen = archive_recipe(recipe, steps, lm, margin)
    tokenized = tokenize(checked, lm)
    ids = torch.tensor(tokenized.ids, dtype=torch.long)
    plan = chunk_plan(lm, len(ids), vectors, chunk_tokens, seed)
    stored = check_store(store, DTYPE_NAMES[lm.dtype])
    computed = choose_compute_dtype(lm, compute_dtype)
    trunk_of(lm, computed, compile_trunk)  # refused before anything is written
    settings = recorded_settings(chosen, lm, computed, compile_trunk)
    initial = None if init is None else initial_vectors(init, lm, chosen, vectors)
    if initial is not None:
        settings["init"] = initial.sha256
    manifest = manifest_of(lm, settings, seed, data, len(ids))
    keeper = None
    if partial is not None:
        keeper = PartialArchive(partial, _job(lm, settings, plan, data, stored), force=force)
    cramming = _Cramming(
        lm, chosen, computed, compile_trunk, initial, stored, crammer or cram_chunks
    )
    chunks = _cram_text(cramming, ids, plan, keeper, on_progress)
    held = sum(chunk.n_tokens for chunk in chunks)
    if held < len(ids):
        tokenized, data = leading(tokenized, held, data, lm)
        ids = ids[: len(tokenized.ids)]
        if not len(ids):
            raise UsageError("stopped before the first token was held", argument="crammer")
        chunks = _first_tokens(chunks, len(ids))
        manifest = manifest_of(lm, settings, seed, data, len(ids))
    tensors = tensors_of(lm, chunks, ids, tokenized, stored)
    update = {"tensors_sha256": tensors.sha256(), **storage_of(chunks, stored)}
    return Archive(manifest.model_copy(update=update), tensors)


@dataclass(frozen=True)
class _Cramming:
    """How the chunks of a text are crammed."""

    lm: FrozenLM
    recipe: Recipe
    compute_dtype: torch.dtype
    compile_trunk: bool
    initial: InitialVectors | None
    store: str | None
    crammer: ChunkCrammer


def _cram_text(
    how: _Cramming,
    ids: Tensor,
    plan: ChunkPlan,
    keeper: PartialArchive | None,
    on_progress: OnProgress | None,
) -> list[Chunk]:
    """Cram all chunks of a text, in order; those that `keeper` has are not crammed again."""
    found = keeper.load() if keeper else []
    finished = [chunk for chunk in found if fits(chunk, plan, how.lm, how.store)]
    chunks = {chunk.start: chunk for chunk in finished}

    def report(progress: CodecProgress) -> None:
        if keeper:
            keeper.flush_if_due()
        if on_progress is not None:
            on_progress(progress)

    try:
        cramming = how.crammer(
            how.lm,
            how.recipe,
            ids,
            plan,
            finished,
            report,
            how.compute_dtype,
            how.compile_trunk,
            how.initial,
            how.store,
        )
        for chunk in cramming:
            chunks[chunk.start] = chunk
            if keeper:
                keeper.add(chunk)
    except KeyboardInterrupt as error:
        # Ctrl-C may come before or after a chunk is noted in either place, so the files count.
        count = 0
        if keeper:
            keeper.close()
            count = len({chunk.start for chunk in keeper.load()})
        if not keeper or not count:
            raise Interrupted("nothing was written") from error
        kept = f"{count} chunks are kept in {str(keeper.folder)!r}"
        raise Interrupted(f"{kept}; run the command again to continue") from error
    finally:
        if keeper:
            keeper.close()
    return [chunks[start] for start in in_order(chunks)]


def _first_tokens(chunks: Sequence[Chunk], n: int) -> list[Chunk]:
    """The chunks of a text's first `n` tokens; the last of them may be cut."""
    return [
        replace(chunk, n_tokens=min(chunk.n_tokens, n - chunk.start))
        for chunk in chunks
        if chunk.start < n
    ]


def decompress(
    archive: Archive | str | Path, lm: FrozenLM, on_progress: OnProgress | None = None
) -> bytes:
    """Restore the original bytes from an archive, by free-running decoding.

    Args:
        archive: the archive, or the path of its file.
        lm: the model it was made with.
        on_progress: called as chunks are decoded.

    Raises:
        ArchiveError: the file is not an archive, the archive was made with another model, or the
            restored bytes are not the original ones.
    """
    data, _ = decode_archive(open_archive(archive), lm, on_progress)
    return data


def get_recipe_with(
    recipe: str | Recipe, steps: int | None, token_steps: int | None = None
) -> Recipe:
    """The recipe of that name, or the one given, with another budget unless that is None.

    Raises:
        UsageError: there is no such recipe, or the budget is not positive.
    """
    chosen = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if token_steps is not None:
        chosen = chosen.with_token_steps(token_steps)
    if steps is None:
        return chosen
    if steps < 1:
        raise UsageError(argument="steps", got=steps, allowed="1 or more")
    return chosen.with_steps(steps)


def archive_recipe(
    recipe: str | Recipe, steps: int | None, lm: FrozenLM, margin: float | None = None
) -> Recipe:
    """Adapt a recipe for archives: its margin survives the rounding of other machines.

    Raises:
        UsageError: there is no such recipe, it never predicts the first token, the margin is
            negative or not finite, or the model computes under autocast.
    """
    if margin is not None and not 0 <= margin < float("inf"):
        raise UsageError(argument="margin", got=margin, allowed="0 or more, and finite")
    chosen = get_recipe_with(recipe, steps).for_one_text()
    if lm.autocast is not None:
        raise UsageError(
            f"got a model in {lm.dtype_name}", argument="lm", allowed="one without autocast"
        )
    # Twice the guard margin, so that few tokens need a guard.
    return chosen.with_margin(max(2 * GUARD_MARGINS[lm.dtype], margin or 0.0))


def chunk_plan(
    lm: FrozenLM, n: int, vectors: int, chunk_tokens: int | None, seed: int
) -> ChunkPlan:
    """Plan how `compress` cuts a text of `n` tokens.

    Raises:
        UsageError: K or the chunk length is out of range.
    """
    room = lm.room(vectors)
    most = min(room or MAX_CHUNK_TOKENS, MAX_CHUNK_TOKENS)
    if chunk_tokens is not None and not 1 <= chunk_tokens <= most:
        positions = "" if room is None else f" ({lm.max_positions} positions)"
        allowed = f"1 to {most}{positions}"
        raise UsageError(argument="chunk_tokens", got=chunk_tokens, allowed=allowed)
    usual = usual_chunk_tokens(lm.input_width, lm.vocab_size, vectors)
    longest = _STRETCH_CHUNKS * usual if chunk_tokens is None else chunk_tokens
    return ChunkPlan(vectors, stretches(n, longest), chunk_tokens is None, room, seed)


def _job(
    lm: FrozenLM, settings: dict[str, Any], plan: ChunkPlan, data: bytes, store: str | None
) -> dict[str, Any]:
    """Collect everything that the vectors of a run depend on."""
    job = {
        "memcram": _release(version("memcram")),
        "model": lm.identity.fingerprint,
        "dtype": DTYPE_NAMES[lm.dtype],
        "layout": lm.layout,
        "recipe": settings,
        "text": hashlib.sha256(data).hexdigest(),
        "plan": asdict(plan),
    }
    return job if store is None else job | {"store": store}


def _release(installed: str) -> str:
    """Return the release of a version: 0.1.0 of 0.1.0.dev7+g1a2b3c4, so that commits can resume."""
    return re.split(r"[^\d.]", installed)[0].rstrip(".")
