"""Names of dtypes and layouts, as the command line and the archives write them."""

from typing import Literal, get_args

import torch

DtypeName = Literal["float32", "bfloat16", "float16", "float64"]
DTYPES: dict[DtypeName, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
DTYPE_NAMES: dict[torch.dtype, DtypeName] = {dtype: name for name, dtype in DTYPES.items()}

Layout = Literal["mem", "mem+bos"]
LAYOUTS: tuple[str, ...] = get_args(Layout)
