"""Pack codes of a few bits into bytes, and unpack them."""

import numpy as np
import torch
from torch import Tensor


def row_bytes(width: int, bits: int) -> int:
    """Compute the bytes of one packed row of `width` codes of `bits` bits."""
    return -(-width * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes, least significant bit first; each row is padded with zero bits to whole bytes.

    Args:
        codes: (row, width) uint8, each below 2^bits.
        bits: 1 to 8.

    Returns:
        (row, bytes) uint8.

    >>> pack(torch.tensor([[1, 0, 3]], dtype=torch.uint8), bits=2).tolist()
    [[49]]
    """
    each = codes.numpy()[..., None] >> np.arange(bits, dtype=np.uint8) & 1
    flat = each.reshape(len(codes), codes.shape[1] * bits)
    return torch.from_numpy(np.packbits(flat, axis=1, bitorder="little"))


def unpack(packed: Tensor, bits: int, width: int) -> Tensor:
    """Unpack codes; the inverse of `pack`. Padding bits are ignored.

    Args:
        packed: (row, bytes) uint8.
        bits: 1 to 8.
        width: codes per row.

    Returns:
        (row, width) uint8.
    """
    flat = np.unpackbits(packed.numpy(), axis=1, count=width * bits, bitorder="little")
    weights = (1 << np.arange(bits)).astype(np.uint8)
    each = flat.reshape(len(packed), width, bits)
    return torch.from_numpy((each * weights).sum(-1, dtype=np.uint8))
