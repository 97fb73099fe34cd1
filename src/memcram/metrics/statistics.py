"""Compute means and fractions with intervals, and rank correlations."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcram.errors import UsageError

_RESAMPLES = 10_000
_BLOCK = 1_000  # resamples drawn at a time: bounds the memory, not the result
_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (n − 1) and bootstrap 95 % interval of the mean."""

    n: int
    mean: float
    std: float | None
    ci95: tuple[float, float] | None


def spread(
    values: Sequence[float], seed: int = 0, passages: Sequence[Hashable] | None = None
) -> Spread:
    """Summarise measurements; a single one has no standard deviation or interval.

    The interval is the 2.5 and 97.5 percentile of the means of 10,000 resamples (Efron 1979).

    Args:
        values: one measurement per text, in any unit; at least one.
        seed: of the resampling.
        passages: one label per measurement. Prefixes of one passage are not independent, so whole
            passages are drawn, and there is no interval with fewer than two. None: all values are
            independent.

    Raises:
        UsageError: no value, or not one label per value.

    Examples:
        >>> spread([1.0, 2.0, 3.0]).mean
        2.0
    """
    data = np.asarray(values, dtype=np.float64)
    if not len(data):
        raise UsageError(argument="values", got=[], allowed="one or more")
    mean, n = float(data.mean()), len(data)
    std = float(data.std(ddof=1)) if n > 1 else None
    sums = sums_by_passage(np.column_stack([np.ones(n), data]), passages)
    if len(sums) < 2:
        return Spread(n, mean, std, None)
    drawn = resampled_sums(sums, seed)
    low, high = np.percentile(drawn[:, 1] / drawn[:, 0], [2.5, 97.5])
    return Spread(n, mean, std, (float(low), float(high)))


@dataclass(frozen=True)
class PairedRatio:
    """Ratio of two means, and their difference, over n texts that both were measured on.

    Intervals are the 2.5 and 97.5 percentile of resamples of texts, both values of a text drawn
    together; None with one text, and that of the ratio if the denominator may be zero.
    """

    n: int
    ratio: float
    ci95: tuple[float, float] | None
    difference: float
    difference_ci95: tuple[float, float] | None


def paired_ratio(over: Sequence[float], under: Sequence[float], seed: int = 0) -> PairedRatio:
    """Compare two means of the same texts.

    Args:
        over, under: one value per text, in the same order; the mean of `under` is not zero.
        seed: of the resampling.

    Raises:
        UsageError: not the same number of values, or none.

    >>> paired_ratio([2.0, 4.0], [1.0, 2.0]).ci95
    (2.0, 2.0)
    """
    if len(over) != len(under) or not len(over):
        problem = f"got {len(over)} values and {len(under)} of under"
        raise UsageError(problem, argument="over", allowed="one or more of each")
    pairs = np.array([over, under], dtype=np.float64).T
    top, bottom = pairs.mean(axis=0)
    drawn = resampled_sums(pairs, seed)
    n, several = len(pairs), len(pairs) > 1
    positive = several and drawn[:, 1].min() > 0
    return PairedRatio(
        n,
        float(top / bottom),
        _percentiles(drawn[:, 0] / drawn[:, 1]) if positive else None,
        float(top - bottom),
        _percentiles((drawn[:, 0] - drawn[:, 1]) / n) if several else None,
    )


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def wilson95(fraction: float, n: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a fraction, which has a width even at 0 and 1 (1927).

    Args:
        fraction: of the n observations that have the property, in [0, 1].
        n: independent observations, at least 1.

    Examples:
        >>> [round(end, 3) for end in wilson95(1.0, 16)]
        [0.806, 1.0]
    """
    z2 = _Z95**2
    centre = fraction + z2 / (2 * n)
    half = _Z95 * math.sqrt(fraction * (1 - fraction) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def rank_correlation(
    x: Sequence[float], y: Sequence[float]
) -> tuple[float, tuple[float, float] | None]:
    """Compute Spearman's ρ with its 95 % interval, which is None for fewer than four pairs.

    The interval is Fisher's z with the standard error √((1 + ρ²/2) / (n − 3)) (Bonett & Wright
    2000). Equal values share their mean rank; ρ is NaN where all values of one side are equal.

    Args:
        x: the first values of independent pairs.
        y: the second values.

    Raises:
        UsageError: `x` and `y` have different lengths, or fewer than two values.

    Examples:
        >>> rank_correlation([1.0, 2.0, 3.0], [2.0, 4.0, 9.0])
        (1.0, None)
    """
    if len(x) != len(y) or len(x) < 2:
        problem = f"got {len(x)} values and {len(y)} of y"
        raise UsageError(problem, argument="x", allowed="two or more of each")
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    if not norm:
        return math.nan, None
    rho = max(-1.0, min(1.0, float(a @ b) / norm))
    if len(x) < 4:
        return rho, None
    if abs(rho) == 1:
        return rho, (rho, rho)
    half = _Z95 * math.sqrt((1 + rho**2 / 2) / (len(x) - 3))
    return rho, (math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Rank values from 1; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], dtype=np.float64)


def sums_by_passage(
    columns: NDArray[np.float64], passages: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    """Add up the rows of one passage: (n, columns) → (passages, columns), in order of appearance.

    Raises:
        UsageError: not one label for each row.
    """
    if passages is None:
        return columns
    if len(passages) != len(columns):
        allowed = f"one per value ({len(columns)})"
        raise UsageError(argument="passages", got=len(passages), allowed=allowed)
    places: dict[Hashable, int] = {}
    index = [places.setdefault(passage, len(places)) for passage in passages]
    sums = np.zeros((len(places), columns.shape[1]))
    np.add.at(sums, index, columns)
    return sums


def resampled_sums(sums: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Column sums of 10,000 resamples, with replacement, of the rows: (10,000, columns)."""
    rng, n = np.random.default_rng(seed), len(sums)
    rows = np.arange(_BLOCK)[:, None] * n
    blocks = []
    for _ in range(_RESAMPLES // _BLOCK):
        picks = rng.integers(0, n, size=(_BLOCK, n))
        times = np.bincount((rows + picks).ravel(), minlength=_BLOCK * n).reshape(_BLOCK, n)
        blocks.append(times.astype(np.float64) @ sums)
    return np.concatenate(blocks)
