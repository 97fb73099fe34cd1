"""Mamba's selective scan in plain torch, at a cost linear in the length.

    h_t = exp(Δ_t A) h_{t−1} + Δ_t B_t x_t,   y_t = C_t h_t + D x_t,   out_t = y_t silu(z_t)

Without compiled kernels, transformers slices each step from tensors of the whole length, and the
gradient of each slice is a tensor of the whole length, so the cost is quadratic in the length. Here
the inputs are split into steps once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus
from transformers.models.mamba import modeling_mamba


def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    delta_bias: Tensor,
    **_: Any,
) -> Tensor:
    """The outputs (batch, channel, length), in float32, from a state of zeros.

    Args:
        x, dt, z: (batch, channel, length); Δ = softplus(dt + delta_bias).
        A: (channel, state).
        B, C: (batch, state, length).
        D, delta_bias: (channel,).
    """
    x, dt = x.float(), softplus(dt.float() + delta_bias[:, None])
    # Length first, so that the steps are contiguous.
    deltas, inputs, writes, reads = (
        part.float().permute(2, 0, 1).contiguous().unbind() for part in (dt, dt * x, B, C)
    )
    state = x.new_zeros(*x.shape[:2], A.shape[1])  # (batch, channel, state)
    outputs = []
    for delta, moved, write, read in zip(deltas, inputs, writes, reads, strict=True):
        state = torch.exp(delta[..., None] * A) * state + moved[..., None] * write[:, None]
        outputs.append((state * read[:, None]).sum(-1))
    return (torch.stack(outputs, dim=-1) + x * D[:, None]) * silu(z.float())


@contextmanager
def used() -> Iterator[None]:
    """Make Mamba models use `scan` within the context; for training, which needs no last state."""
    before = modeling_mamba.mamba_selective_scan
    modeling_mamba.mamba_selective_scan = scan
    try:
        yield
    finally:
        modeling_mamba.mamba_selective_scan = before
