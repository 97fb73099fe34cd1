"""Compute information gain, its line and threshold, and bits per dimension.

Sums of nats run over t₂ … t_N, for which the bare LM has a prediction; t₁ is never included.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcram.errors import UsageError
from memcram.metrics.statistics import resampled_sums, sums_by_passage

NATS_PER_BIT = math.log(2)
# Reference values in bits per dimension, derived in docs/method.md; neither is a bound on vectors.
PERCEPTRON_BITS = 2.0  # a perceptron with continuous weights (Cover 1965, Gardner 1988)
SUPERPOSITION_BITS = 1 / (2 * NATS_PER_BIT)  # a sum of random codes, one per token
_SAME_X = 1e-12  # relative variance below which texts count as equally surprising


def bits_from_nats(nats: float) -> float:
    """Nats / ln 2.

    Examples:
        >>> bits_from_nats(math.log(8))
        3.0
    """
    return nats / NATS_PER_BIT


def information_gain_nats(lm_nats: float, mem_nats: float) -> float:
    """C_H = H_LM − H_LM+mem of one text (nats)."""
    return lm_nats - mem_nats


def information_gain_bits(lm_nats: float, mem_nats: float) -> float:
    """C_H / ln 2 of one text (bits); the arguments are nats."""
    return bits_from_nats(information_gain_nats(lm_nats, mem_nats))


def bits_per_dimension(gain_nats: float, width: int, vectors: int = 1) -> float:
    """Information gain per coordinate of the K vectors (bits per coordinate).

    Compare it with the 16 or 32 bits in which a coordinate is stored.

    Examples:
        >>> round(bits_per_dimension(math.log(2) * 512, width=256), 9)
        2.0
    """
    return bits_from_nats(gain_nats) / (vectors * width)


def bits_per_byte(nats: float, utf8_bytes: int) -> float:
    """Convert nats of a text to bits per byte, which is comparable between tokenizers.

    The bytes include those of t₁ and the nats do not, so it is slightly too small for short
    texts. NaN for a text without bytes.
    """
    return bits_from_nats(nats) / utf8_bytes if utf8_bytes else math.nan


@dataclass(frozen=True)
class CrossEntropyLine:
    """Lines through the points (H_LM, H_LM+mem), one per text.

    Attributes:
        n: texts.
        threshold_nats: where the line of slope 1 meets zero, `cross_entropy_threshold_nats`.
        slope: of the free least-squares line, nats per nat; None where all H_LM are the same.
        intercept_nats: of the free line; None as above.
        slope_ci95: bootstrap interval of the free slope; None with fewer than three passages.
    """

    n: int
    threshold_nats: float
    slope: float | None
    intercept_nats: float | None
    slope_ci95: tuple[float, float] | None


def cross_entropy_threshold_nats(lm_nats: Sequence[float], mem_nats: Sequence[float]) -> float:
    """Mean information gain, the threshold of the slope-1 line (nats).

    Least squares for H_LM+mem = H_LM + a gives a = mean(H_LM+mem − H_LM). The line meets zero at
    H_LM = −a, which is the mean information gain: a text with fewer nats is expected to fit.

    Raises:
        UsageError: no texts, or not one of each.
    """
    x, y = _points(lm_nats, mem_nats)
    return float(-(y - x).mean())


def cross_entropy_line(
    lm_nats: Sequence[float],
    mem_nats: Sequence[float],
    seed: int = 0,
    passages: Sequence[Hashable] | None = None,
) -> CrossEntropyLine:
    """Fit a line of slope 1, and a line with free slope to test whether the slope is 1.

        slope = Σ (x − x̄)(y − ȳ) / Σ (x − x̄)²,   x = H_LM, y = H_LM+mem

    If vectors remove a fixed number of nats from any text, the slope is 1. The interval is
    the 2.5 and 97.5 percentile of the slopes of 10,000 resamples of whole passages; resamples whose
    H_LM are all the same have no slope and are left out.

    Args:
        lm_nats: H_LM, one per text.
        mem_nats: H_LM+mem, one per text. The paper excludes `saturated` texts: they lie at zero for
            any H_LM, and flatten the line.
        seed: of the resampling.
        passages: as in `spread`.

    Raises:
        UsageError: no texts, or not one of each.
    """
    x, y = _points(lm_nats, mem_nats)
    threshold = cross_entropy_threshold_nats(lm_nats, mem_nats)
    # Centred, so that the sums of squares below do not cancel.
    dx, dy = x - x.mean(), y - y.mean()
    floor = _SAME_X * float((x**2).sum())
    if (dx**2).sum() <= floor:
        return CrossEntropyLine(len(x), threshold, None, None, None)
    slope = float((dx * dy).sum() / (dx**2).sum())
    intercept = float(y.mean() - slope * x.mean())
    sums = sums_by_passage(np.column_stack([np.ones(len(x)), dx, dy, dx * dx, dx * dy]), passages)
    ci95 = _slope_interval(sums, floor, seed) if len(sums) >= 3 else None
    return CrossEntropyLine(len(x), threshold, slope, intercept, ci95)


def _slope_interval(sums: NDArray[np.float64], floor: float, seed: int) -> tuple[float, float]:
    n, sx, sy, sxx, sxy = resampled_sums(sums, seed).T
    variance = sxx - sx * sx / n
    some = variance > floor
    slopes = (sxy - sx * sy / n)[some] / variance[some]
    low, high = np.percentile(slopes, [2.5, 97.5])
    return float(low), float(high)


def _points(
    lm_nats: Sequence[float], mem_nats: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not len(lm_nats) or len(lm_nats) != len(mem_nats):
        problem = f"got {len(lm_nats)} values and {len(mem_nats)} of mem_nats"
        raise UsageError(problem, argument="lm_nats", allowed="one of each per text")
    return np.asarray(lm_nats, dtype=np.float64), np.asarray(mem_nats, dtype=np.float64)
