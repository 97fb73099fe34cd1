"""What a device says when its memory is full."""

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether this is what torch raises when a device, or the host, has no memory left."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error).lower()
        or "can't allocate memory" in str(error)
    )


def free_cache(device: torch.device) -> None:
    """Give back the blocks that torch keeps for later on `device`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
