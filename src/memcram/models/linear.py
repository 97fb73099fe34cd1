"""Run linear maps with frozen float32 weights through oneDNN, on x86 CPUs.

torch uses MKL, which runs at less than half the peak rate on CPUs that are not from Intel. oneDNN
also gives a row the same bits in any batch of two or more rows
(docs/decisions/003-batch-independence.md). The operator is the one that torch.compile emits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


_IS_AVAILABLE = _has_onednn()


def _onednn(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result


class _FrozenLinear(torch.autograd.Function):
    """W x + b with a gradient to x alone."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        [weight] = ctx.saved_tensors
        return _onednn(gradients[0], weight.t(), None), None, None


def frozen_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x + b of inputs (..., in), as `torch.nn.functional.linear`; the weights get no gradient.

    Args:
        inputs: (..., in).
        weight: (out, in), frozen.
        bias: (out,), frozen.
    """
    is_plain = inputs.dtype == weight.dtype == torch.float32 and inputs.device.type == "cpu"
    if not (_IS_AVAILABLE and is_plain) or torch.is_autocast_enabled("cpu"):
        return functional.linear(inputs, weight, bias)
    # Flat, so that what the function returns is not a view, which may not be changed in place.
    rows = inputs.reshape(-1, inputs.shape[-1])
    result: Tensor = _FrozenLinear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return result.view(*inputs.shape[:-1], len(weight))


class FrozenLinear(nn.Linear):
    """`torch.nn.Linear` whose weights get no gradient."""

    def forward(self, inputs: Tensor) -> Tensor:
        """W x + b."""
        return frozen_linear(inputs, self.weight, self.bias)


def freeze_linears(module: nn.Module) -> None:
    """Turn every `torch.nn.Linear` of `module` into a `FrozenLinear`, in place."""
    for part in module.modules():
        if type(part) is nn.Linear:
            part.__class__ = FrozenLinear
