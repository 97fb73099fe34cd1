"""Assemble the tensors and the manifest of an archive."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from memcram.archive.corrections import GUARD_MARGINS, find_corrections
from memcram.archive.format import ArchiveTensors
from memcram.archive.manifest import (
    PACKED_VERSION,
    Manifest,
    ModelRecord,
    StorageRecord,
    TextRecord,
)
from memcram.archive.partial import Chunk
from memcram.archive.pieces import TokenizedText
from memcram.archive.stored import pack_vectors, unpack_vectors
from memcram.errors import UsageError
from memcram.models import decoding
from memcram.models.frozen_lm import FrozenLM
from memcram.models.modes import DTYPE_NAMES

_NO_CHECKSUM = "0" * 64


def storage_of(chunks: Sequence[Chunk], store: str | None) -> dict[str, Any]:
    """Return the manifest fields that say how vectors are stored; none in the model's dtype."""
    if store is None:
        return {}
    shortened = sum(chunk.storage.shortened for chunk in chunks if chunk.storage is not None)
    record = {"store": store, "chunks_shortened": shortened}
    return {"version": PACKED_VERSION, "storage": StorageRecord.model_validate(record)}


def tensors_of(
    lm: FrozenLM, chunks: list[Chunk], ids: Tensor, tokenized: TokenizedText, store: str | None
) -> ArchiveTensors:
    """Decode the stored vectors along the true tokens, and record what decodes wrongly.

    Args:
        lm: the model.
        chunks: all chunks of the text, in order.
        ids: (n,) its tokens.
        tokenized: the text.
        store: precision in which the vectors are stored; None: the model's dtype.
    """
    lengths = [chunk.n_tokens for chunk in chunks]
    mems = [chunk.mem for chunk in chunks]
    vectors = [len(mem) for mem in mems]
    packed = None
    if store is not None:
        storages = [chunk.storage for chunk in chunks if chunk.storage is not None]
        packed = pack_vectors(mems, storages)
        mems = unpack_vectors(packed, store, vectors, lm.input_width, lm.dtype)
    true = list(ids.split(lengths))
    decoded = decoding.greedy(lm, mems, lengths, forced=true)
    found = find_corrections(decoded, true, GUARD_MARGINS[lm.dtype])
    raw = tokenized.raw
    plain = torch.cat([torch.empty(0, lm.input_width, dtype=lm.dtype), *mems])
    return ArchiveTensors(
        vectors=plain if packed is None else packed.packed,
        chunk_vectors=torch.tensor(vectors, dtype=torch.int32),
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
        vector_scales=None if packed is None else packed.scales,
        chunk_bits=None if packed is None else packed.chunk_bits,
    )


def manifest_of(
    lm: FrozenLM, settings: dict[str, Any], seed: int, data: bytes, tokens: int
) -> Manifest:
    """Make the manifest of a new archive, without the checksum of its tensors.

    Raises:
        UsageError: the model's name, its revision or the seed can't be recorded.
    """
    identity = lm.identity
    packages = ("memcram", "torch", "transformers", "tokenizers", "safetensors")
    try:
        return Manifest(
            model=ModelRecord(
                id=identity.id,
                revision=identity.revision,
                fingerprint=identity.fingerprint,
                input_width=lm.input_width,
                vocab_size=lm.vocab_size,
            ),
            text=TextRecord(
                sha256=hashlib.sha256(data).hexdigest(), bytes=len(data), tokens=tokens
            ),
            dtype=DTYPE_NAMES[lm.dtype],
            layout=lm.layout,
            recipe=settings,
            seed=seed,
            versions={name: version(name) for name in packages},
            tensors_sha256=_NO_CHECKSUM,
        )
    except ValidationError as error:
        first = error.errors()[0]
        # The name of a model is the argument `model` of `load_lm`.
        argument = {"id": "model"}.get(str(first["loc"][-1]), str(first["loc"][-1]))
        problem = f"an archive can't record it ({first['msg']})"
        raise UsageError(problem, argument=argument) from error
