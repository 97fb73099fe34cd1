"""Initialisers: distributions of the initial vectors, or of their low-dimensional coordinates."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from memcram.recipes.component import component
from memcram.recipes.ranges import NotNegative, Real


@runtime_checkable
class Initialiser(Protocol):
    """Distribution of the initial values."""

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """Draw initial values of `shape` in float64 on the CPU.

        Args:
            shape: (K, coordinates per vector).
            embedding_std: standard deviation of the whole input embedding matrix.
            generator: source of the random numbers, on the CPU.
        """


@component
class NormalStart:
    """N(0, σ²), σ = `scale` × the standard deviation of the whole input embedding matrix."""

    scale: NotNegative = 1.0

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """Draw initial values of `shape` in float64 on the CPU."""
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        return noise * (self.scale * embedding_std)


@component
class UniformStart:
    """Uniform in [low, high) per coordinate."""

    low: Real = 0.0
    high: Real = 0.02

    def draw(
        self, shape: tuple[int, int], embedding_std: float, generator: torch.Generator
    ) -> Tensor:
        """Draw initial values of `shape` in float64 on the CPU."""
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        return self.low + (self.high - self.low) * noise
