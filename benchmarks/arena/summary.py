"""From rows to figures of a recipe, and to ratios between two: pure functions on stored bouts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arena.budget import grid_up_to
from arena.rows import exact_at
from memcram.metrics.statistics import spread

_RESAMPLES = 10_000
# A published recipe that holds fewer tokens than this on average was not run as published.
NEAR_ZERO = 2.0

Bout = dict[str, Any]


def summarise(bout: Bout, lengths: Sequence[int]) -> dict[str, Any]:
    """One line of the table: tokens, token-steps, seconds and logits.

    Seconds of a text are its token-steps at the bout's own rate, since texts share a batch.
    """
    rows = bout["rows"]
    horizon = spread([row["horizon"] for row in rows])
    to_exact = [row["to_exact"] for row in rows if row["to_exact"] is not None]
    margins = [row["min_margin"] for row in rows if row["min_margin"] is not None]
    rate = bout["token_steps"] / bout["seconds"] if bout["seconds"] else 0.0
    mean_to_exact = sum(to_exact) / len(to_exact) if to_exact else None
    return {
        "recipe": bout["recipe"],
        "vectors": bout["vectors"],
        "lengths": bout["lengths"],
        "texts": len(rows),
        "horizon": horizon.mean,
        "horizon_std": horizon.std,
        "horizon_ci95": horizon.ci95,
        "horizon_at_most": sum(row["at_most"] for row in rows) / len(rows),
        "censored": sum(row["censored"] for row in rows),
        "share_exact": {str(n): share_exact(bout, n) for n in lengths},
        "token_steps_to_exact": mean_to_exact,
        "seconds_to_exact": mean_to_exact / rate if mean_to_exact is not None and rate else None,
        "token_steps": bout["token_steps"],
        "seconds": bout["seconds"],
        "smallest_margin": min(margins) if margins else None,
        "median_margin": float(np.median(margins)) if margins else None,
    }


def share_exact(bout: Bout, length: int) -> float | None:
    """Share of the texts that hold `length` tokens; None where that was not measured."""
    grows = bout["lengths"] == "grown"
    found = [exact_at(row, length, grows=grows) for row in bout["rows"]]
    known = [exact for exact in found if exact is not None]
    return sum(known) / len(known) if known else None


def measured_lengths(bouts: Sequence[Bout]) -> list[int]:
    """Lengths at which recipes can be compared: those of the grid, and on to the longest held."""
    fixed = [bout for bout in bouts if bout["lengths"] == "grid"]
    on_grid = {attempt["length"] for bout in fixed for attempt in bout["rows"][0]["attempts"]}
    longest = max((row["horizon"] for bout in bouts for row in bout["rows"]), default=0)
    start = max(on_grid, default=0)
    return sorted(on_grid | {n for n in grid_up_to(longest) if n > start})


def ratio(over: Bout, under: Bout, column: str = "horizon", seed: int = 0) -> dict[str, Any]:
    """The mean of one recipe over that of another, on the texts they share.

    The interval is the 2.5 and 97.5 percentile over 10,000 resamples of texts, a text's two values
    always together. A ratio of means, because single texts may hold nothing; where even the mean of
    a resample does, there may be no upper end to tell, and the interval is None.

    Raises:
        ValueError: the texts are not the same.
    """
    a, b = paired(over, under, column)
    picks = np.random.default_rng(seed).integers(0, len(a), size=(_RESAMPLES, len(a)))
    tops, bottoms = a[picks].mean(axis=1), b[picks].mean(axis=1)
    some = bottoms > 0
    found = np.where(some, tops / np.where(some, bottoms, 1.0), np.inf)
    low = float(np.percentile(found, 2.5, method="lower"))
    high = float(np.percentile(found, 97.5, method="higher"))
    return {
        "over": over["recipe"],
        "under": under["recipe"],
        "vectors": over["vectors"],
        "of": column,
        "texts": len(a),
        "ratio": float(a.mean() / b.mean()) if b.mean() > 0 else None,
        "ci95": (low, high) if len(a) > 1 and np.isfinite(high) else None,
    }


def paired(
    over: Bout, under: Bout, column: str
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """The values of two bouts, text by text.

    The denominator of a recipe on the grid may be taken at its upper end, `at_most`: the numerator
    is its horizon in any case, so that the ratio is then a lower bound.
    """
    ids = [row["id"] for row in over["rows"]]
    if ids != [row["id"] for row in under["rows"]]:
        raise ValueError(f"{over['recipe']} and {under['recipe']} ran on different texts")
    top = "horizon" if column == "at_most" else column
    return (
        np.asarray([row[top] for row in over["rows"]], dtype=np.float64),
        np.asarray([row[column] for row in under["rows"]], dtype=np.float64),
    )


def ratios(bouts: Sequence[Bout]) -> list[dict[str, Any]]:
    """Every recipe's horizon against each later one's, of the same K.

    `at_least` is the ratio where each text under the second recipe held all that the grid leaves
    open.
    """
    found = []
    for i, over in enumerate(bouts):
        for under in bouts[i + 1 :]:
            if over["vectors"] == under["vectors"]:
                found.append(
                    ratio(over, under) | {"at_least": ratio(over, under, "at_most")["ratio"]}
                )
    return found


def faults(bouts: Sequence[Bout]) -> list[str]:
    """Sentences about recipes that hold next to nothing: a fault of the arena, not a finding."""
    found = []
    for bout in bouts:
        mean = sum(row["horizon"] for row in bout["rows"]) / len(bout["rows"])
        if mean < NEAR_ZERO:
            found.append(
                f"{bout['recipe']}, K = {bout['vectors']}: a mean horizon of {mean:.1f} tokens; "
                "a baseline near 0 is a fault of the arena (budget, lengths, learning rate), and "
                "ratios to it mean nothing"
            )
    return found


def best_rate(bouts: Sequence[tuple[float, Bout]]) -> float:
    """The rate with the largest mean horizon; among equals, with the fewest token-steps."""

    def key(pair: tuple[float, Bout]) -> tuple[float, int]:
        bout = pair[1]
        return sum(row["horizon"] for row in bout["rows"]), -bout["token_steps"]

    return max(bouts, key=key)[0]
