"""Compute decoding capacity, exact horizon, token gain and utilisation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memcram.errors import UsageError
from memcram.metrics.bound import capacity_bound

ACCURACY_THRESHOLD = 0.99  # of kuratov2025
_ROUNDING = 1e-12  # a mean of 0.99s may come out just below 0.99


@dataclass(frozen=True)
class Capacity:
    """The largest length at which a mean reaches a threshold.

    Attributes:
        tokens: the largest length that reaches it, even if shorter ones do not, as in the paper;
            None if no length does.
        unbroken_tokens: the largest length up to which every measured length reaches it; None if
            the shortest does not. It is smaller than `tokens` if a shorter length failed by
            chance.
        next_tokens: the shortest measured length above `tokens`, which failed; None if `tokens` is
            the longest measured, so that the capacity may be larger. The capacity lies between
            the two.
    """

    tokens: int | None
    unbroken_tokens: int | None
    next_tokens: int | None


def decoding_capacity_tokens(
    accuracies: Mapping[int, Sequence[float]], threshold: float = ACCURACY_THRESHOLD
) -> Capacity:
    """Find the largest length whose mean teacher-forced accuracy is at least the threshold.

    Args:
        accuracies: by length in tokens, one teacher-forced accuracy per text.
        threshold: in (0, 1].

    Raises:
        UsageError: no lengths, a length without texts, or a threshold outside (0, 1].

    Source: Kuratov et al., ACL 2025 (threshold 0.99).

    Examples:
        >>> decoding_capacity_tokens({8: [1.0, 1.0], 16: [1.0, 0.99], 32: [0.9, 1.0]})
        Capacity(tokens=16, unbroken_tokens=16, next_tokens=32)
    """
    return _largest_length(accuracies, threshold, ("accuracies", "threshold"))


def exact_capacity_tokens(exact: Mapping[int, Sequence[bool]], fraction: float = 0.5) -> Capacity:
    """Find the largest length at which at least this fraction of the texts is exact.

    The counterpart of the decoding capacity for free-running decoding. The fraction is of texts,
    not of tokens: 0.5 gives the length of the median text, and 0.99 of 16 texts would require all.

    Args:
        exact: by length in tokens, for each text whether free-running decoding returned it.
        fraction: in (0, 1].

    Raises:
        UsageError: no lengths, a length without texts, or a fraction outside (0, 1].
    """
    return _largest_length(exact, fraction, ("exact", "fraction"))


def _largest_length(
    values: Mapping[int, Sequence[float]], threshold: float, arguments: tuple[str, str]
) -> Capacity:
    if not 0 < threshold <= 1:
        raise UsageError(argument=arguments[1], got=threshold, allowed="above 0, at most 1")
    lengths = sorted(values)
    empty = [length for length in lengths if not len(values[length])]
    if not lengths or empty:
        allowed = "one text or more per length"
        raise UsageError(argument=arguments[0], got=dict(values), allowed=allowed)
    reached = [
        math.fsum(values[length]) / len(values[length]) >= threshold - _ROUNDING
        for length in lengths
    ]
    places = [place for place, enough in enumerate(reached) if enough]
    last = places[-1] if places else -1
    run = reached.index(False) if False in reached else len(reached)
    return Capacity(
        tokens=lengths[last] if places else None,
        unbroken_tokens=lengths[run - 1] if run else None,
        next_tokens=lengths[last + 1] if last + 1 < len(lengths) else None,
    )


@dataclass(frozen=True)
class MeanHorizon:
    """Mean exact horizon of texts, some of which may be censored.

    Attributes:
        n: texts.
        tokens: mean of the horizons as measured: a lower bound if any is censored.
        censored_share: censored fraction of the texts.
        restricted_tokens: mean of min(horizon, `limit_tokens`) that allows for censoring.
        limit_tokens: the last token tested in any text.
    """

    n: int
    tokens: float
    censored_share: float
    restricted_tokens: float
    limit_tokens: int


def mean_horizon(horizons: Sequence[int], censored: Sequence[bool]) -> MeanHorizon:
    """Compute the mean exact horizon, its censored fraction and the Kaplan–Meier restricted mean.

    With f_j the texts that missed token j, and r_j those in which token j was tested:

        P(horizon ≥ j) = Π_{i ≤ j} (1 − f_i / r_i)
        restricted mean = Σ_{j ≤ limit} P(horizon ≥ j)

    In a text of horizon h, h + 1 tokens were tested and the last was missed; in a censored one, h
    were tested and none missed. The estimate assumes that the length of a text is unrelated to how
    much of it would fit. If all texts are equally long, it is the plain mean, because nothing was
    measured beyond. It is never below the plain mean.

    Args:
        horizons: tokens before the first miss, one per text.
        censored: whether the text or the positions ended first.

    Raises:
        UsageError: no texts, or not one `censored` for each.

    Source: Kaplan and Meier 1958; restricted mean: Irwin 1949.

    Examples:
        >>> mean_horizon([4, 2], [False, True]).restricted_tokens
        4.0
    """
    if not horizons or len(horizons) != len(censored):
        problem = f"got {len(horizons)} with {len(censored)} censored flags"
        raise UsageError(problem, argument="horizons", allowed="one or more, one flag each")
    tokens, held = survival(np.asarray(horizons), np.asarray(censored, dtype=bool))
    limit = max(h if cut else h + 1 for h, cut in zip(horizons, censored, strict=True))
    # P(horizon ≥ j) is constant from one step to the next; token 1 is the first.
    steps = np.append(np.maximum(tokens, 1), limit + 1)
    return MeanHorizon(
        n=len(horizons),
        tokens=math.fsum(horizons) / len(horizons),
        censored_share=sum(censored) / len(censored),
        restricted_tokens=float(held @ np.diff(steps)),
        limit_tokens=limit,
    )


def survival(
    horizons: NDArray[np.int64], censored: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Kaplan–Meier estimate: `share[i]` of the texts hold at least `tokens[i]` tokens.

    A text that missed token h + 1 has the horizon h; a censored one leaves without a miss.
    """
    tokens, share = [0], [1.0]
    for n in np.unique(horizons[~censored]):
        missed = int(((horizons == n) & ~censored).sum())
        at_risk = missed + int((horizons > n).sum())
        tokens.append(int(n) + 1)
        share.append(share[-1] * (1 - missed / at_risk))
    return np.array(tokens), np.array(share)


def token_gain_tokens(mem_right: float, lm_right: float) -> float:
    """Correct tokens with `mem` − correct tokens of the bare LM, over t₂ … t_N (tokens)."""
    return mem_right - lm_right


def saturated(accuracy: float, threshold: float = ACCURACY_THRESHOLD) -> bool:
    """Whether a text is too short to fill the vector: accuracy above the threshold.

    The gain of such a text is limited by its length: it is only a lower bound, and a mean over such
    texts would grow with the lengths of the grid. The paper therefore averages gains, line and
    utilisation over the texts that are not saturated (accuracy ≤ 0.99).
    """
    return accuracy > threshold


def utilisation(
    gain_tokens: float, width: int, vocab_size: int, vectors: int = 1, bits: float = 16
) -> float:
    """Token gain / capacity bound of K vectors: a fraction, without unit.

    Args:
        gain_tokens: token gain of one text, or a mean of them.
        width: coordinates of an input vector.
        vocab_size: tokens of the vocabulary.
        vectors: K; K vectors have K times the coordinates.
        bits: b, bits per coordinate that the bound allows.

    Examples:
        >>> utilisation(340 + 1 / 3, 256, 4096) > 0.99
        True
    """
    return gain_tokens / (vectors * capacity_bound(width, vocab_size, bits))
