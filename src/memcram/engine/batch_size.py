"""Choose how many positions go through the model at once."""

import torch

from memcram.models.frozen_lm import FrozenLM
from memcram.models.memory import is_out_of_memory

_CPU_TOKENS = 1024
# Of an accelerator whose memory is not measured; a larger batch than the maximum gains little.
_USUAL_TOKENS, _MAX_TOKENS, _MIN_TOKENS = 16_384, 65_536, 256
_PROBE_TOKENS = 256
# The rest is for gradients, the states of the texts, the logits and fragmentation.
_USED_FRACTION = 0.7


def usual_batch_tokens(trunk: FrozenLM) -> int:
    """Return the positions per forward pass for a model's device.

    On a CUDA device that is what fits in its free memory, by a measured pass.

    Args:
        trunk: the model in the dtype that it computes in.
    """
    if trunk.device.type == "cpu":
        return _CPU_TOKENS
    if trunk.device.type != "cuda":
        return _USUAL_TOKENS
    try:
        needed = _bytes_per_position(trunk)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return _MIN_TOKENS
    free, _ = torch.cuda.mem_get_info(trunk.device)
    cached = torch.cuda.memory_reserved(trunk.device) - torch.cuda.memory_allocated(trunk.device)
    return tokens_that_fit(free + cached, needed)


def tokens_that_fit(free_bytes: float, bytes_per_position: float) -> int:
    """Return how many positions fit in free memory, within the bounds of a useful batch."""
    fitting = int(_USED_FRACTION * free_bytes / max(1.0, bytes_per_position))
    return max(_MIN_TOKENS, min(fitting, _MAX_TOKENS))


def _bytes_per_position(trunk: FrozenLM) -> float:
    """Measure the peak memory of a forward pass on a CUDA device, with all that backward needs."""
    positions = min(_PROBE_TOKENS, trunk.max_positions or _PROBE_TOKENS)
    shape = (1, positions, trunk.input_width)
    embeds = torch.zeros(shape, dtype=trunk.dtype, device=trunk.device, requires_grad=True)
    before = torch.cuda.memory_allocated(trunk.device)
    torch.cuda.reset_peak_memory_stats(trunk.device)
    kept = trunk.hidden(embeds)  # with its graph, until the peak is read
    peak = torch.cuda.max_memory_allocated(trunk.device)
    del kept
    return (peak - before) / positions
