"""Estimate what cutting a text greedily into chunks costs, from a few measured chunks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcram.errors import UsageError

_RESAMPLES = 1000
_BLOCK_CELLS = 2**21  # tokens × resamples worked on at a time: bounds the memory, not the result
# A variance below this fraction of the squared mean is rounding.
_ROUNDING = 1e-12

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An expected value with a 95 % prediction interval."""

    expected: float
    low: float
    high: float

    def times(self, factor: float) -> "Interval":
        """Convert to another unit; `factor` is positive."""
        return Interval(self.expected * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class CutCost:
    """Chunks of a text, and the token-steps spent on them."""

    chunks: Interval
    token_steps: Interval


def cut_cost(
    lengths: Sequence[int], token_steps: Sequence[int], stretches: Sequence[int], seed: int = 0
) -> CutCost:
    """Estimate chunks and token-steps of a text whose stretches are cut greedily.

    A stretch of n tokens is cut until nothing is left, by chunks as long as those measured, each
    with the same chance: N(n) = 1 + E[N(n − L)], N(0) = 0. The last chunk is as long as what is
    left, and costs in proportion. The 95 % interval covers the sampling error of few measured
    chunks (a bootstrap over them) and the variation of the text's own chunks (the variance of
    N(n), summed over the stretches, as a normal variable).

    Args:
        lengths: tokens of each measured chunk, two or more.
        token_steps: spent on each of them.
        stretches: tokens of each stretch of the text.
        seed: of the resampling.

    Raises:
        UsageError: fewer than two chunks, or a number that is not positive.

    Examples:
        >>> cut_cost([10, 10], [500, 500], [25, 25]).chunks
        Interval(expected=6.0, low=6.0, high=6.0)
    """
    if len(lengths) < 2 or len(lengths) != len(token_steps):
        allowed = "2 or more chunks, each with its cost"
        raise UsageError(argument="lengths", got=list(lengths), allowed=allowed)
    if not stretches or min(*lengths, *token_steps, *stretches) < 1:
        raise UsageError("lengths, token_steps and stretches must be 1 or more")
    sizes, costs = np.asarray(lengths), np.asarray(token_steps, dtype=np.float64)
    n = len(sizes)
    rng = np.random.default_rng(seed)
    # One draw fewer than there are chunks: that makes the bootstrap's variance unbiased.
    weights = rng.multinomial(n - 1, [1 / n] * n, size=_RESAMPLES).T / (n - 1)
    ends = np.asarray(stretches)
    expected, _ = _totals(sizes, costs, np.full((n, 1), 1 / n), ends)
    block = max(1, _BLOCK_CELLS // int(ends.max()))
    parts = [
        _totals(sizes, costs, weights[:, at : at + block], ends)
        for at in range(0, _RESAMPLES, block)
    ]
    mean = np.concatenate([part[0] for part in parts], axis=1)
    variance = np.concatenate([part[1] for part in parts], axis=1)
    drawn = mean + np.sqrt(variance) * rng.standard_normal(mean.shape)
    drawn[0] = np.maximum(drawn[0], len(ends))  # a stretch has at least one chunk
    low, high = np.percentile(np.maximum(drawn, 0.0), [2.5, 97.5], axis=1)
    chunks, steps = (
        Interval(*(round(float(x[i]), 6) for x in (expected[:, 0], low, high))) for i in (0, 1)
    )
    return CutCost(chunks, steps)


def _totals(
    sizes: NDArray[np.int64], costs: Array, weights: Array, ends: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Compute mean and variance of chunks and cost, summed over stretches: (2, resample) each.

    Args:
        sizes, costs: (measured,) of each chunk.
        weights: (measured, resample) chance of each, adding up to 1.
        ends: (stretch,) tokens.
    """
    longest = int(ends.max())
    mean = np.zeros((2, longest + 1, weights.shape[1]))
    square = np.zeros_like(mean)
    for n in range(1, longest + 1):
        left = np.maximum(0, n - sizes)
        share = np.minimum(1.0, n / sizes)
        reward = np.stack([np.ones_like(costs), costs * share])[:, :, None]  # (2, measured, 1)
        rest = mean[:, left]
        mean[:, n] = (weights * (reward + rest)).sum(1)
        square[:, n] = (weights * (reward**2 + 2 * reward * rest + square[:, left])).sum(1)
    variance = square - mean**2
    variance[variance < _ROUNDING * square] = 0.0
    return mean[:, ends].sum(1), variance[:, ends].sum(1)
