"""The few measures a report takes over texts, each from plain columns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame

THRESHOLD = 0.99  # of the mean teacher-forced accuracy; kuratov2025
EXACT_SHARE = 0.5
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Capacity:
    """Largest length (tokens) that reaches a threshold, and the next measured one that does not.

    None: no length does; or the largest that does was the longest measured.
    """

    tokens: int | None
    next_tokens: int | None
    n: int  # texts of that length (of the shortest, if none reaches it)


def capacity(rows: DataFrame, column: str, threshold: float) -> Capacity:
    """Largest length whose mean of `column` (one value a text) is at least `threshold`."""
    means = rows.groupby("length")[column].agg(["mean", "size"]).sort_index()
    enough = [int(length) for length in means.index[means["mean"] >= threshold - 1e-12]]
    tokens = enough[-1] if enough else None
    longer = [int(length) for length in means.index if tokens is None or length > tokens]
    at = tokens if tokens is not None else int(means.index[0])
    return Capacity(tokens, longer[0] if longer else None, int(means.loc[at, "size"]))


def unsaturated(rows: DataFrame) -> DataFrame:
    """Texts longer than the vectors could hold: a shorter one shows its own length, not a limit."""
    return rows[rows["accuracy"] <= THRESHOLD]


@dataclass(frozen=True)
class Line:
    """Lines through the points (H_LM, H_LM+mem) in nats, one a text.

    `threshold` is where the line of slope 1 meets zero, the mean gain; `slope` and `intercept` are
    of the free line (None where all H_LM are alike), `slope_ci95` its bootstrap interval.
    """

    n: int
    threshold: float
    slope: float | None
    intercept: float | None
    slope_ci95: tuple[float, float] | None


def line(lm_nats: ArrayLike, mem_nats: ArrayLike, seed: int = 0) -> Line:
    """Fit both lines by least squares."""
    x, y = np.asarray(lm_nats, dtype=np.float64), np.asarray(mem_nats, dtype=np.float64)
    threshold = float((x - y).mean())
    if len(x) < 2 or np.ptp(x) == 0:
        return Line(len(x), threshold, None, None, None)
    slope, intercept = _free(x[None], y[None])
    interval = None
    if len(x) >= 3:
        picks = np.random.default_rng(seed).integers(0, len(x), size=(_RESAMPLES, len(x)))
        slopes, _ = _free(x[picks], y[picks])
        low, high = np.nanpercentile(slopes, [2.5, 97.5])
        interval = (float(low), float(high))
    return Line(len(x), threshold, float(slope[0]), float(intercept[0]), interval)


def _free(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slopes and intercepts (rows,) of points (rows, n); NaN where a row's x are all alike."""
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    squares = (dx**2).sum(1)
    slopes = np.full(len(x), np.nan)
    np.divide((dx * dy).sum(1), squares, out=slopes, where=squares > 1e-12 * (x**2).sum(1))
    return slopes, y.mean(1) - slopes * x.mean(1)


@dataclass(frozen=True)
class Survival:
    """Kaplan–Meier estimate of the share of texts that hold at least `tokens[i]` tokens."""

    tokens: NDArray[np.float64]
    share: NDArray[np.float64]


def survival(horizons: ArrayLike, censored: ArrayLike) -> Survival:
    """P(horizon ≥ n) for n = 0, 1, … where a censored text leaves without having missed a token.

    A text that missed token h + 1 has the horizon h.
    """
    h, cut = np.asarray(horizons, dtype=int), np.asarray(censored, dtype=bool)
    tokens, share = [0.0], [1.0]
    for n in np.unique(h[~cut]):
        at_risk = int(((h > n) | ((h == n) & ~cut)).sum())
        missed = int(((h == n) & ~cut).sum())
        tokens.append(float(n + 1))
        share.append(share[-1] * (1 - missed / at_risk))
    return Survival(np.array(tokens), np.array(share))
