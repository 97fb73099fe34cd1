"""Choose the dtype in which the trunk runs while vectors are optimised."""

import os
import shutil
import sys
import time
from functools import cache
from typing import Any, Literal

import torch

from memcram.errors import ModelError, UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.models.linear import frozen_linear
from memcram.models.modes import DTYPE_NAMES, DTYPES
from memcram.recipes.recipe import Recipe

ComputeDtype = Literal["auto", "float32", "bfloat16"]

# Below this many parameters the trunk is not what costs, and finishing costs more than it saves.
_MIN_PARAMETERS = 50_000_000
# Finishing costs some steps, so a small gain is none.
_MIN_GAIN = 1.3
_PROBE_ROWS, _PROBE_RUNS = 512, 3


def choose_compute_dtype(lm: FrozenLM, wanted: ComputeDtype | torch.dtype) -> torch.dtype:
    """Return the dtype of the trunk while optimising.

    Args:
        lm: the model; its dtype is that of the vectors.
        wanted: a dtype, or `auto`: bfloat16 for a large float32 model on a device that is measured
            to multiply matrices faster in it, else the model's dtype.

    Raises:
        UsageError: it is neither the model's dtype nor bfloat16 for a wider one.
    """
    if wanted == "auto":
        is_candidate = lm.dtype == torch.float32 and lm.parameters >= _MIN_PARAMETERS
        if not is_candidate or lm.autocast is not None:
            return lm.dtype
        return torch.bfloat16 if _gain(lm.device, lm.input_width) >= _MIN_GAIN else lm.dtype
    own = [DTYPE_NAMES[lm.dtype]]
    if lm.dtype.itemsize >= 4 and lm.autocast is None:
        own.append("bfloat16")
    name = DTYPE_NAMES.get(wanted) if isinstance(wanted, torch.dtype) else wanted
    if name is None or name not in own:
        allowed = ", ".join(["auto", *own])
        raise UsageError(argument="compute_dtype", got=str(name or wanted), allowed=allowed)
    return DTYPES[name]


def trunk_of(lm: FrozenLM, computed: torch.dtype, compile_trunk: bool = False) -> FrozenLM:
    """Return the copy of the model that is run while optimising.

    Only a copy in a lower precision can be compiled, because the model itself decides exactness. In
    float32 torch's compiler also fails at the operator of `models/linear.py`.

    Args:
        lm: the model.
        computed: dtype of the copy; the model's own gives the model.
        compile_trunk: compile its decoder layers.

    Raises:
        UsageError: it cannot be compiled: it is in the model's own dtype, or a CPU has no C++
            compiler.
        ModelError: the decoder layers to compile are not found.
    """
    if not compile_trunk:
        return lm.in_dtype(computed)
    check_compile(lm, computed)
    return lm.in_dtype(computed).compiled()


def check_compile(lm: FrozenLM, computed: torch.dtype) -> None:
    """Check that the copy of the model in dtype `computed` can be compiled here.

    Raises:
        UsageError: it is in the model's own dtype, or a CPU has no C++ compiler.
    """
    if computed == lm.dtype:
        raise UsageError(
            f"the model is optimised in its own dtype, {DTYPE_NAMES[computed]}",
            argument="compile_trunk",
            allowed="a model in float32 or float64 with a compute dtype of bfloat16",
        )
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)  # as torch looks for it
    if lm.device.type == "cpu" and shutil.which(compiler) is None:
        raise UsageError(
            f"the C++ compiler {compiler!r} is not found",
            argument="compile_trunk",
            allowed="one on the PATH, or named in the variable CXX",
        )


def raise_compile_error(error: RuntimeError) -> None:
    """Raise a one-line error if `error` comes from torch's compiler; return otherwise.

    Layers are compiled when they first run, so a missing header, a full disk or a damaged cache
    shows only then.

    Raises:
        ModelError: the model cannot be compiled.
    """
    # By name, because importing torch's compiler takes seconds.
    if type(error).__module__.partition(".")[2].startswith(("_inductor", "_dynamo")):
        first = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise ModelError(f"torch.compile failed ({first}); run without compiling") from error


def recorded_settings(
    recipe: Recipe, lm: FrozenLM, computed: torch.dtype, compile_trunk: bool = False
) -> dict[str, Any]:
    """Settings of a recipe, with `compute_dtype` and `compile` where they are not the usual."""
    extra: dict[str, Any] = {}
    if computed != lm.dtype:
        extra["compute_dtype"] = DTYPE_NAMES[computed]
    if compile_trunk:  # rounds differently
        extra["compile"] = True
    return recipe.settings() | extra


@cache
def _gain(device: torch.device, width: int) -> float:
    """Measure seconds in float32 / seconds in bfloat16 of a matrix product of the model's width."""
    inputs = torch.randn(_PROBE_ROWS, width, device=device)
    weight = torch.randn(4 * width, width, device=device)
    return _seconds(inputs, weight) / _seconds(inputs.bfloat16(), weight.bfloat16())


@torch.no_grad()
def _seconds(inputs: torch.Tensor, weight: torch.Tensor) -> float:
    """Time the fastest of several runs, after a warm-up run."""
    times = []
    for _ in range(1 + _PROBE_RUNS):
        began = time.perf_counter()
        frozen_linear(inputs, weight).sum().item()  # waits for the device
        times.append(time.perf_counter() - began)
    return min(times[1:])
