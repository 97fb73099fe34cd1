"""Initialisers: the first values of what is optimised."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from memcram.recipes.ranges import NotNegative, Real


class Start(Protocol):
    """Where the parameters begin."""

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """A start of `shape` in float64, drawn on the CPU."""


@dataclass(frozen=True)
class NormalStart:
    """N(0, σ²) with σ = `scale` × the standard deviation of the whole input embedding matrix."""

    scale: NotNegative = 1.0

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """A start of `shape` in float64, drawn on the CPU."""
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return noise * (self.scale * embedding_std)


@dataclass(frozen=True)
class UniformStart:
    """Uniform in [low, high) per coordinate."""

    low: Real = 0.0
    high: Real = 0.02

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """A start of `shape` in float64, drawn on the CPU."""
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        return self.low + (self.high - self.low) * noise
