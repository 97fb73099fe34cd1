"""Pack the vectors of an archive in fewer bits than the model's dtype, and unpack them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.quantisation import PRECISIONS, decode, encode, pack, precisions_of, row_bytes, unpack

_FLOATS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Storage:
    """How the vectors of a chunk are stored.

    Attributes:
        precision: a key of `memcram.quantisation.PRECISIONS`.
        scales: (K,) float32.
        shortened: whether the chunk holds fewer tokens than before it was stored so.
    """

    precision: str
    scales: Tensor
    shortened: bool = False


@dataclass(frozen=True)
class PackedVectors:
    """The vectors of all chunks as an archive stores them.

    Attributes:
        packed: (bytes,) uint8, one vector after the other, each in whole bytes.
        scales: (all vectors,) float32.
        chunk_bits: (chunk,) uint8, bits per dimension.
    """

    packed: Tensor
    scales: Tensor
    chunk_bits: Tensor


def pack_vectors(mems: Sequence[Tensor], storages: Sequence[Storage]) -> PackedVectors:
    """Pack vectors.

    Args:
        mems: per chunk (K, width), which the storage can express.
        storages: per chunk.
    """
    rows = [torch.zeros(0, dtype=torch.uint8)]
    for mem, storage in zip(mems, storages, strict=True):
        codes = encode(mem, storage.scales, storage.precision)
        if storage.precision in _FLOATS:
            rows.append(codes.contiguous().view(torch.uint8).reshape(-1))
        else:
            rows.append(pack(codes, PRECISIONS[storage.precision]).reshape(-1))
    bits = [PRECISIONS[storage.precision] for storage in storages]
    scales = torch.cat([torch.zeros(0), *(storage.scales for storage in storages)])
    return PackedVectors(torch.cat(rows), scales, torch.tensor(bits, dtype=torch.uint8))


def unpack_vectors(
    stored: PackedVectors, store: str, vectors: Sequence[int], width: int, dtype: torch.dtype
) -> list[Tensor]:
    """Unpack the vectors of each chunk, (K, width).

    Args:
        stored: as from `pack_vectors`, and checked by `find_problem`.
        store: a member of `memcram.quantisation.STORES`.
        vectors: K of each chunk.
        width: of the vectors.
        dtype: of the result.
    """
    names = {PRECISIONS[name]: name for name in precisions_of(store)}
    mems, at, row = [], 0, 0
    for k, bits in zip(vectors, stored.chunk_bits.tolist(), strict=True):
        size = row_bytes(width, bits)
        rows = stored.packed[at : at + k * size].reshape(k, size)
        precision = names[bits]
        if precision in _FLOATS:
            codes = rows.clone().view(getattr(torch, precision))
        else:
            codes = unpack(rows, bits, width)
        mems.append(decode(codes, stored.scales[row : row + k], precision, dtype))
        at, row = at + k * size, row + k
    return mems


def find_problem(
    stored: PackedVectors, store: str, vectors: Sequence[int], width: int
) -> str | None:
    """Describe the first contradiction in packed vectors, or return None.

    Args:
        stored: tensors of any shape and dtype.
        store: a member of `memcram.quantisation.STORES`.
        vectors: K of each chunk, positive.
        width: of the vectors.
    """
    packed, scales, chunk_bits = stored.packed, stored.scales, stored.chunk_bits
    if packed.dim() != 1 or packed.dtype != torch.uint8:
        return "type or shape of vectors"
    if scales.dim() != 1 or scales.dtype != torch.float32:
        return "type or shape of vector_scales"
    if chunk_bits.dim() != 1 or chunk_bits.dtype != torch.uint8:
        return "type or shape of chunk_bits"
    bits = chunk_bits.tolist()
    if len(bits) != len(vectors) or sum(vectors) != len(scales):
        return "number of scales or bits"
    if not set(bits) <= {PRECISIONS[name] for name in precisions_of(store)}:
        return "bits of the vectors"
    if not bool((scales.isfinite() & (scales > 0)).all()):
        return "scales of the vectors"
    each = (k * row_bytes(width, b) for k, b in zip(vectors, bits, strict=True))
    return None if sum(each) == len(packed) else "length of the vectors"
