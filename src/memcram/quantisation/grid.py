"""Quantise vectors: a scale per vector, and a few bits per dimension.

An integer code c of b bits stands for scale · (2c + 1 − 2^b). These are 2^b evenly spaced values
without 0, so every code is valid. The other precisions are floating-point numbers times the scale.
"""

from typing import Final, Literal, get_args

import torch
from torch import Tensor

from memcram.errors import UsageError

Store = Literal["float32", "bfloat16", "float16", "int8", "int4", "least"]
STORES: Final[tuple[str, ...]] = get_args(Store)

PRECISIONS: Final[dict[str, int]] = {
    "float64": 64,
    "float32": 32,
    "bfloat16": 16,
    "float16": 16,
    **{f"int{bits}": bits for bits in range(8, 0, -1)},
}
"""Bits per dimension, by the name of the precision."""

_FLOATS: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")
}

# Gap between the 2^b evenly spaced values that round normally distributed coordinates with the
# smallest squared error, in standard deviations. Source: Max, IRE Transactions on Information
# Theory 6 (1960), table II; 6 to 8 bits computed in the same way.
_GAPS = {1: 1.596, 2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}


def check_store(store: str | None, dtype_name: str) -> str | None:
    """Return a storage precision, None if it is the dtype of the model itself.

    Raises:
        UsageError: it is unknown, or has no fewer bits than the model's dtype.
    """
    if store is None or store == dtype_name:
        return None
    bits = PRECISIONS[dtype_name]
    fewer = [name for name in STORES if PRECISIONS.get(name, 0) < bits]
    if store not in fewer:
        allowed = ", ".join([dtype_name, *fewer])
        raise UsageError(argument="store", got=store, allowed=allowed)
    return store


def precisions_of(store: str) -> tuple[str, ...]:
    """Return the precisions that chunks of an archive with this `store` may have.

    Those of `least` are in the order in which they are tried.
    """
    if store != "least":
        return (store,)
    return (*(f"int{bits}" for bits in range(8, 0, -1)), "float16", "float32")


def scales_of(vectors: Tensor, precision: str) -> Tensor:
    """Choose the scale of each vector from the root mean square of its coordinates.

    Args:
        vectors: (K, width), finite.
        precision: a key of `PRECISIONS`.

    Returns:
        (K,) float32, positive; 1 for float32, which needs none.
    """
    if precision == "float32":
        return torch.ones(len(vectors))
    unit = 1.0 if precision in _FLOATS else _GAPS[PRECISIONS[precision]] / 2
    rms = vectors.double().square().mean(-1).sqrt()
    return (unit * rms).float().clamp(min=torch.finfo(torch.float32).tiny)


def rounded(units: Tensor, precision: str) -> Tensor:
    """Round coordinates in units of their vector's scale to the nearest value that has a code.

    Args:
        units: any shape.
        precision: a key of `PRECISIONS`.

    Returns:
        The same shape and dtype.
    """
    if precision in _FLOATS:
        return units.to(_FLOATS[precision]).to(units.dtype)
    top = (1 << PRECISIONS[precision]) - 1
    return (2 * (units / 2).floor() + 1).clamp(-top, top)


def encode(vectors: Tensor, scales: Tensor, precision: str) -> Tensor:
    """Return the codes of the values nearest to the coordinates.

    Args:
        vectors: (K, width), finite.
        scales: (K,).
        precision: a key of `PRECISIONS`.

    Returns:
        (K, width) uint8 for integer codes, else the dtype of the precision.
    """
    units = vectors.to(_wide(vectors.dtype)) / scales[:, None]
    near = rounded(units, precision)
    if precision in _FLOATS:
        return near.to(_FLOATS[precision])
    top = (1 << PRECISIONS[precision]) - 1
    return ((near + top) / 2).to(torch.uint8)


def decode(codes: Tensor, scales: Tensor, precision: str, dtype: torch.dtype) -> Tensor:
    """Return the vectors (K, width) that codes and scales stand for.

    Args:
        codes: (K, width) as from `encode`.
        scales: (K,).
        precision: a key of `PRECISIONS`.
        dtype: of the result; computed in float32, or in float64 if that is wanted.
    """
    values = codes.to(_wide(dtype))
    if precision not in _FLOATS:
        values = 2 * values + (1 - (1 << PRECISIONS[precision]))
    return (scales[:, None] * values).to(dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
