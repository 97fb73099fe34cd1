"""Seconds until texts of one length are exact: the sides run in turns."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import click
import torch

from arena.bouts import START_STRIDE, Terms, cram_requests, progress
from arena.summary import Bout, share_exact
from arena.variants import BASELINE, Entry
from memcram.compression.chunks import RESTARTS
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.models import FrozenLM, decoding
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome


@dataclass(frozen=True)
class Side:
    """One way of making the texts exact.

    Attributes:
        recipe: its `strategy`, with the budget that is its own.
        one_by_one: a text at a time instead of as many slots as the engine likes.
        restarts: further starts for a text that did not come out right.
    """

    recipe: Recipe
    one_by_one: bool = False
    restarts: int = 0

    @property
    def name(self) -> str:
        """In the table."""
        return self.recipe.name + (", one by one" if self.one_by_one else "")


@dataclass(frozen=True)
class Lap:
    """One turn of one side: seconds with decoding, exact texts, token-steps of all of them."""

    seconds: float
    exact: int
    token_steps: int


def sides_of(ours: Entry, others: Sequence[Entry]) -> list[Side]:
    """Ours with the restarts that `compress` gives it; the baseline one text at a time."""
    return [
        Side(ours.recipe, restarts=RESTARTS),
        *(Side(one.recipe, one_by_one=one.base == BASELINE) for one in others),
    ]


def half_length(bout: Bout) -> int:
    """The length at which about half of the texts are exact; of two as near, the shorter."""
    lengths = sorted(attempt["length"] for attempt in bout["rows"][0]["attempts"])
    return min(lengths, key=lambda n: (abs((share_exact(bout, n) or 0.0) - 0.5), n))


def run_race(
    lm: FrozenLM, sides: Sequence[Side], texts: Sequence[torch.Tensor], terms: Terms, turns: int
) -> dict[str, Any]:
    """All sides, A B C A B C …, after one short text that warms up."""
    warm = replace(sides[0].recipe, strategy=sides[0].recipe.strategy.with_steps(2))
    run_lap(lm, Side(warm), texts[:1], terms)
    laps: list[list[Lap]] = [[] for _ in sides]
    for turn in range(turns):
        for side, done in zip(sides, laps, strict=True):
            done.append(run_lap(lm, side, texts, terms))
            click.echo(
                f"  race, turn {turn + 1}: {side.name}: {done[-1].seconds:.1f} s, "
                f"{done[-1].exact} of {len(texts)} exact",
                err=True,
            )
    return {
        "texts": len(texts),
        "length": len(texts[0]),
        "vectors": terms.vectors,
        "turns": turns,
        "threads": torch.get_num_threads(),
        "sides": [_side(s, done, len(texts)) for s, done in zip(sides, laps, strict=True)],
        "ratios": [
            compare(sides[i].name, laps[i], sides[0].name, laps[0], len(texts))
            for i in range(1, len(sides))
        ],
    }


def run_lap(lm: FrozenLM, side: Side, texts: Sequence[torch.Tensor], terms: Terms) -> Lap:
    """Cram until every text is right or given up, then decode; the clock stops behind that."""
    requests = cram_requests(side.recipe, texts, terms)
    attempt = dict.fromkeys(range(len(texts)), 0)
    best: dict[Any, Crammed] = {}
    token_steps = 0

    def again(crammed: Crammed) -> CramRequest | None:
        nonlocal token_steps
        token_steps += crammed.token_steps
        key = crammed.key
        assert isinstance(key, int)
        if key not in best or crammed.n_right > best[key].n_right:
            best[key] = crammed
        if crammed.outcome == Outcome.RIGHT or attempt[key] >= side.restarts:
            return None
        attempt[key] += 1
        seed = requests[key].seed + START_STRIDE * attempt[key]
        return replace(requests[key], seed=seed)

    # A batch of one position has room for one slot, whatever the length.
    engine = Engine(lm, side.recipe, batch_tokens=1 if side.one_by_one else None)
    started = time.perf_counter()
    for _ in engine.run(requests, progress(side.name, terms.vectors), again):
        pass
    mems = [best[i].mem for i in range(len(texts))]
    if side.one_by_one:
        back = [decoding.greedy(lm, [m], [len(ids)])[0] for m, ids in zip(mems, texts, strict=True)]
    else:
        back = decoding.greedy(lm, mems, [len(ids) for ids in texts])
    exact = sum(torch.equal(b.ids, ids) for b, ids in zip(back, texts, strict=True))
    return Lap(time.perf_counter() - started, exact, token_steps)


def compare(
    over: str, slow: Sequence[Lap], under: str, fast: Sequence[Lap], texts: int
) -> dict[str, Any]:
    """Seconds of one side over those of ours, turn by turn, and how the ratio is to be read.

    A text that a side never makes exact counts with the time it was worked on. If that happens to
    the slower side only, the true ratio is larger; if it happens to ours, nothing is bounded.
    """
    found = [a.seconds / b.seconds for a, b in zip(slow, fast, strict=True)]
    ours = max(texts - lap.exact for lap in fast)
    theirs = max(texts - lap.exact for lap in slow)
    if ours:
        reading = f"no bound: {under} failed on up to {ours} texts itself"
    elif theirs:
        reading = f"a lower bound: {over} failed on up to {theirs} texts"
    else:
        reading = "every text exact on both sides"
    return {
        "over": over,
        "under": under,
        "of": "seconds",
        "n": len(found),
        "ratio": statistics.median(found),
        "low": min(found),
        "high": max(found),
        "all": [round(one, 3) for one in found],
        "reading": reading,
    }


def _side(side: Side, laps: Sequence[Lap], texts: int) -> dict[str, Any]:
    return {
        "name": side.name,
        "settings": side.recipe.settings(),
        "restarts": side.restarts,
        "seconds": statistics.median(lap.seconds for lap in laps),
        "exact": statistics.median(lap.exact for lap in laps),
        "failed": statistics.median(texts - lap.exact for lap in laps),
        "laps": [asdict(lap) for lap in laps],
    }
