"""How `[mem]` depends on what is optimised."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Parameters = dict[str, Tensor]


class Parametrisation(Protocol):
    """Parameters of one text, and the `[mem]` of many."""

    def init(self, start: Tensor, generator: torch.Generator) -> Parameters:
        """Parameters of one text whose `[mem]` begins at `start` (K, width)."""

    def mem(self, parameters: Parameters) -> Tensor:
        """`[mem]` (slot, K, width) of parameters stacked along a slot axis."""


@dataclass(frozen=True)
class Direct:
    """The coordinates of `[mem]` themselves are optimised."""

    def init(self, start: Tensor, generator: torch.Generator) -> Parameters:
        """`mem` (K, width), a copy of `start`."""
        return {"mem": start.clone()}

    def mem(self, parameters: Parameters) -> Tensor:
        """The parameter itself, (slot, K, width)."""
        return parameters["mem"]


class Start(Protocol):
    """Where `[mem]` begins."""

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """A start (K, width) in float64, drawn on the CPU."""


@dataclass(frozen=True)
class NormalStart:
    """N(0, σ²) with σ = `scale` × the standard deviation of the whole input embedding matrix."""

    scale: float = 1.0

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """A start (K, width) in float64, drawn on the CPU."""
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return noise * (self.scale * embedding_std)


@dataclass(frozen=True)
class UniformStart:
    """Uniform in [low, high) per coordinate."""

    low: float = 0.0
    high: float = 0.02

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """A start (K, width) in float64, drawn on the CPU."""
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        return self.low + (self.high - self.low) * noise
