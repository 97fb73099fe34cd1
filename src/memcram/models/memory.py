"""Recognise errors of a full memory."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this was raised because the device or the host has no memory left."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate memory" in str(error)
    )
