"""Map names of dtypes and layouts, as used by command line and archives, to values."""

from collections.abc import Collection
from typing import Literal, get_args

import torch

from memcram.errors import UsageError

DtypeName = Literal["float32", "bfloat16", "float16", "float64"]
DTYPES: dict[DtypeName, torch.dtype] = {name: getattr(torch, name) for name in get_args(DtypeName)}
DTYPE_NAMES: dict[torch.dtype, DtypeName] = {dtype: name for name, dtype in DTYPES.items()}

Layout = Literal["mem", "mem+bos"]
LAYOUTS: tuple[str, ...] = get_args(Layout)


def dtype_of(
    dtype: DtypeName | torch.dtype,
    *,
    argument: str = "dtype",
    allowed: Collection[DtypeName] = tuple(DTYPES),
) -> torch.dtype:
    """Return the dtype of a name; a torch.dtype is returned unchanged.

    Raises:
        UsageError: it is not one of `allowed`.
    """
    name = DTYPE_NAMES.get(dtype) if isinstance(dtype, torch.dtype) else dtype
    if name is None or name not in allowed:
        raise UsageError(argument=argument, got=dtype, allowed=", ".join(allowed))
    return DTYPES[name]
