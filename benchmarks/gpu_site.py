"""Device and models of `gpu.py`."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

import memcram
from memcram.models import FrozenLM
from memcram.models.frozen_lm import ModelIdentity
from memcram.models.modes import DtypeName


class CheckError(AssertionError):
    """A check that failed."""


def require(condition: bool, message: str) -> None:
    """Raise `CheckError` unless the condition holds."""
    if not condition:
        raise CheckError(message)


@dataclass(frozen=True)
class Site:
    """Where to run, and how much.

    Attributes:
        device: of the models.
        quick: small sizes and few steps.
    """

    device: torch.device
    quick: bool = False

    @property
    def on_cuda(self) -> bool:
        """Whether the device is one of CUDA."""
        return self.device.type == "cuda"

    def pocket(self, dtype: DtypeName = "float32") -> FrozenLM:
        """Load the packaged model on the device."""
        return _pocket(str(self.device), dtype)

    def pocket_on_cpu(self) -> FrozenLM:
        """Load the packaged model on the CPU, in float32."""
        return _pocket("cpu", "float32")

    def wait(self) -> None:
        """Wait until the device has finished."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        """Reset the recorded peak of allocated memory."""
        if self.on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int | None:
        """Peak of allocated memory; None where it is not recorded."""
        return torch.cuda.max_memory_allocated(self.device) if self.on_cuda else None


@cache
def _pocket(device: str, dtype: DtypeName) -> FrozenLM:
    return memcram.load_lm("pocket", device=device, dtype=dtype)


def prose(lm: FrozenLM, rows: int, tokens: int) -> list[Tensor]:
    """Passages of the packaged text, evenly spread; they may overlap."""
    text = files("memcram").joinpath("data/demo.txt").read_text("utf-8")
    ids = torch.tensor(lm.tokenize(text))
    last = len(ids) - tokens
    return [ids[i * last // max(1, rows - 1) :][:tokens] for i in range(rows)]


def random_lm(config: LlamaConfig, device: torch.device) -> FrozenLM:
    """Make a model of random float32 weights, without a tokenizer."""
    torch.manual_seed(0)
    with device:
        module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    identity = ModelIdentity("random", None, "random")
    return FrozenLM(module.to(device), SimpleNamespace(bos_token_id=None), identity)
