"""Store vectors in fewer bits: a scale per vector, and a few bits per dimension."""

from memcram.quantisation.grid import (
    PRECISIONS,
    STORES,
    Store,
    check_store,
    decode,
    encode,
    precisions_of,
    rounded,
    scales_of,
)
from memcram.quantisation.packing import pack, row_bytes, unpack

__all__ = [
    "PRECISIONS",
    "STORES",
    "Store",
    "check_store",
    "decode",
    "encode",
    "pack",
    "precisions_of",
    "rounded",
    "row_bytes",
    "scales_of",
    "unpack",
]
