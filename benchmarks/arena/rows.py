"""What the arena keeps of one text: its horizon, what it cost, and the way there."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

from memcram.texts import TextSample

Point = tuple[int, int]


@dataclass(frozen=True)
class Attempt:
    """One text at one aim: the whole of it for a growing recipe, a length of the grid for another.

    Attributes:
        length: tokens asked for.
        exact: tokens that free-running decoding returns before the first miss.
        min_margin: smallest margin over these, in logits; None if there are none.
        steps, token_steps: spent in all.
        history: (token-steps, tokens held under teacher forcing) wherever the second rose, up to
            what decoding confirms.
        outcome: of the engine.
    """

    length: int
    exact: int
    min_margin: float | None
    steps: int
    token_steps: int
    history: tuple[Point, ...]
    outcome: str

    def reached(self, tokens: int) -> int | None:
        """Token-steps after which `tokens` were held, None if they never were."""
        return _reached(self.history, tokens)


@dataclass(frozen=True)
class Row:
    """One text under one recipe.

    Attributes:
        id, origin, offset: of the sample; `offset` in characters.
        horizon: exact tokens: all a growing recipe holds, or the longest length of the grid.
        at_most: what the horizon could be without contradicting the grid: one token less than the
            next length; for a growing recipe the horizon itself.
        censored: the text or the grid ended first.
        min_margin: smallest margin over the horizon, in logits; None if nothing is held.
        to_exact: token-steps until the horizon was held, None if nothing is.
        token_steps: spent in all; by a recipe of fixed length, over all lengths.
        history: (token-steps, exact tokens) wherever the second rose. At a recipe of fixed length
            the first counts from the start of each length, since each has the whole budget.
        attempts: by length.
    """

    id: str
    origin: str
    offset: int
    horizon: int
    at_most: int
    censored: bool
    min_margin: float | None
    to_exact: int | None
    token_steps: int
    history: tuple[Point, ...]
    attempts: tuple[dict[str, Any], ...]


def rises(points: Iterable[Point], at_most: int) -> tuple[Point, ...]:
    """The points at which the tokens rise, with no more than `at_most` tokens."""
    found: list[Point] = []
    for spent, held in points:
        tokens = min(held, at_most)
        if tokens > (found[-1][1] if found else 0):
            found.append((spent, tokens))
    return tuple(found)


def grown_row(sample: TextSample, attempts: Sequence[Attempt]) -> Row:
    """The row of a recipe that grew: the start that held most, of one after the other."""
    best = max(attempts, key=lambda attempt: attempt.exact)
    before = accumulate((attempt.token_steps for attempt in attempts), initial=0)
    points = [
        (earlier + spent, held)
        for earlier, attempt in zip(before, attempts, strict=False)
        for spent, held in attempt.history
    ]
    history = rises(points, best.exact)
    return Row(
        id=sample.id,
        origin=sample.origin,
        offset=sample.offset,
        horizon=best.exact,
        at_most=best.exact,
        censored=best.exact == best.length,
        min_margin=best.min_margin,
        to_exact=_reached(history, best.exact) if best.exact else None,
        token_steps=sum(attempt.token_steps for attempt in attempts),
        history=history,
        attempts=tuple(_short(attempt) for attempt in attempts),
    )


def grid_row(sample: TextSample, attempts: Sequence[Attempt]) -> Row:
    """The row of a recipe that ran at each length: the longest that is exact."""
    held = [attempt for attempt in attempts if attempt.exact == attempt.length]
    best = held[-1] if held else None
    longer = [a.length for a in attempts if best is None or a.length > best.length]
    horizon = best.length if best else 0
    points = sorted((a.reached(a.length) or 0, a.length) for a in held)
    return Row(
        id=sample.id,
        origin=sample.origin,
        offset=sample.offset,
        horizon=horizon,
        at_most=longer[0] - 1 if longer else horizon,
        censored=not longer,
        min_margin=best.min_margin if best else None,
        to_exact=best.reached(best.length) if best else None,
        token_steps=sum(attempt.token_steps for attempt in attempts),
        history=rises(points, horizon),
        attempts=tuple(_short(attempt) for attempt in attempts),
    )


def exact_at(row: dict[str, Any], length: int, *, grows: bool) -> bool | None:
    """Whether a stored row holds `length` tokens; None where that was not measured.

    A growing recipe holds every length up to its horizon.
    """
    if grows:
        return int(row["horizon"]) >= length
    by_length = {attempt["length"]: attempt for attempt in row["attempts"]}
    if length in by_length:
        return bool(by_length[length]["exact"] == length)
    return None


def _reached(history: Sequence[Point], tokens: int) -> int | None:
    return next((spent for spent, held in history if held >= tokens), None)


def _short(attempt: Attempt) -> dict[str, Any]:
    """An attempt without its history, for the file."""
    return {name: value for name, value in asdict(attempt).items() if name != "history"}
