"""Copy numbers to a device, recognise errors of a full memory, and free it."""

import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def upload(
    values: Sequence[Any] | Tensor, device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Copy numbers to a device, without making the host wait for it.

    Args:
        values: numbers, or sequences of them, as for `torch.tensor`; or a tensor on the CPU.
        device: where to.
        dtype: None for that of the numbers.
    """
    made = torch.as_tensor(values, dtype=dtype)
    if device.type != "cuda":
        return made.to(device)
    # A copy from pageable memory waits until the device has caught up.
    return made.pin_memory().to(device, non_blocking=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this was raised because the device or the host has no memory left."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate memory" in str(error)
    )


def free_memory(error: BaseException) -> None:
    """Free what a computation held that ran out of memory, while its error is handled.

    An error keeps the local variables of the functions that it passed through, and so the whole
    graph of a forward pass.
    """
    traceback.clear_frames(error.__traceback__)
    torch.cuda.empty_cache()  # does nothing where CUDA is not in use
