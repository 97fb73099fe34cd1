"""One bout: one recipe, one K, all texts, from the starts to what free-running decoding returns."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import click
import torch

from arena.budget import Budgeted, grid_up_to, is_over, steps_within
from arena.rows import Attempt, Row, grid_row, grown_row, rises
from arena.variants import Entry
from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.models import FrozenLM, decoding
from memcram.models.accounting import exact_prefix
from memcram.recipes.recipe import Recipe
from memcram.texts import TextSample

# Further starts of a text begin at seeds that no other text has.
START_STRIDE = 7_919
_REPORT_EVERY = 10.0


@dataclass(frozen=True)
class Terms:
    """What all recipes have in common.

    Attributes:
        vectors: K.
        budget: token-steps a text, and a length where the recipe does not grow.
        grid: lengths, None for the default ones.
        seed: of the starts.
    """

    vectors: int
    budget: int
    grid: tuple[int, ...] | None
    seed: int


def run_bout(
    lm: FrozenLM, entry: Entry, samples: Sequence[TextSample], terms: Terms
) -> dict[str, Any]:
    """Measure one recipe; everything about it as plain JSON values."""
    started = time.perf_counter()
    measure = _grown if entry.grows else _on_grid
    rows = measure(lm, entry, samples, terms)
    seconds = time.perf_counter() - started
    return {
        "recipe": entry.name,
        "vectors": terms.vectors,
        "lengths": "grown" if entry.grows else "grid",
        "starts": entry.starts,
        "settings": entry.recipe.settings(),
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "device": str(lm.device),
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 2),
        "token_steps": sum(row.token_steps for row in rows),
        "rows": [asdict(row) for row in rows],
    }


def _grown(lm: FrozenLM, entry: Entry, samples: Sequence[TextSample], terms: Terms) -> list[Row]:
    """From each of its starts, with the budget in place of the strategy's own number of steps."""
    growing = entry.recipe.for_horizon()
    # Only the strategy's steps: its patience and a schedule of the optimiser stay its own.
    budget = terms.budget // entry.starts
    strategy = Budgeted(replace(growing.strategy, steps=budget), budget)
    recipe = replace(growing, strategy=strategy)
    ids = [sample.ids for sample in samples]
    of_starts = [
        attempts(lm, recipe, ids, replace(terms, seed=terms.seed + START_STRIDE * i), entry.name)
        for i in range(entry.starts)
    ]
    return [
        grown_row(sample, of_text) for sample, *of_text in zip(samples, *of_starts, strict=True)
    ]


def _on_grid(lm: FrozenLM, entry: Entry, samples: Sequence[TextSample], terms: Terms) -> list[Row]:
    """The whole budget at each length, until two successive lengths have no exact text."""
    by_length: list[list[Attempt]] = []
    for length in grid_up_to(min(len(s.ids) for s in samples), terms.grid):
        steps = steps_within(terms.budget, terms.vectors, len(lm.prefix), length)
        recipe = replace(entry.recipe, strategy=entry.recipe.strategy.with_steps(steps))
        ids = [sample.ids[:length] for sample in samples]
        by_length.append(attempts(lm, recipe, ids, terms, f"{entry.name} at {length} tokens"))
        if is_over([sum(a.exact == a.length for a in found) for found in by_length]):
            break
    return [grid_row(sample, [found[i] for found in by_length]) for i, sample in enumerate(samples)]


def attempts(
    lm: FrozenLM, recipe: Recipe, texts: Sequence[torch.Tensor], terms: Terms, name: str
) -> list[Attempt]:
    """Cram all texts side by side and judge what comes back, in the order of `texts`."""
    # The host looks at every measurement, so that no text goes on behind the end of its budget.
    engine = Engine(lm, recipe, poll_every=1)
    requests = cram_requests(recipe, texts, terms)
    done = {crammed.key: crammed for crammed in engine.run(requests, progress(name, terms.vectors))}
    crammed = [done[i] for i in range(len(texts))]
    grows = recipe.strategy.keeps_prefix
    asked = [
        max(1, one.n_right) if grows else len(ids) for one, ids in zip(crammed, texts, strict=True)
    ]
    decoded = decoding.greedy(lm, [one.mem for one in crammed], asked)
    return [
        _attempt(one, ids, back) for one, ids, back in zip(crammed, texts, decoded, strict=True)
    ]


def cram_requests(recipe: Recipe, texts: Sequence[torch.Tensor], terms: Terms) -> list[CramRequest]:
    """One request a text, keyed by its place; where a recipe shares weights, neighbours do."""
    requests = []
    for i, ids in enumerate(texts):
        request = CramRequest(i, ids, terms.vectors, terms.seed + SEED_STRIDE * i)
        if recipe.group_size:
            request = replace(request, group=i // recipe.group_size)
        requests.append(request)
    return requests


def _attempt(crammed: Crammed, ids: torch.Tensor, back: decoding.Decoded) -> Attempt:
    exact = exact_prefix(back.ids, ids)
    return Attempt(
        length=len(ids),
        exact=exact,
        min_margin=back.margins[:exact].min().item() if exact else None,
        steps=crammed.steps,
        token_steps=crammed.token_steps,
        history=rises(((spent, held) for _, spent, held in crammed.rises.tolist()), exact),
        outcome=str(crammed.outcome),
    )


def progress(name: str, vectors: int) -> Callable[[EngineStatus], None]:
    """A line on stderr every few seconds."""
    started = time.perf_counter()
    last = started

    def report(status: EngineStatus) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= _REPORT_EVERY:
            last = now
            left = status.active + status.waiting
            click.echo(
                f"  {name}, K = {vectors}: {status.done} done, {left} left, turn {status.steps}, "
                f"{status.tokens_right} tokens right, {now - started:.0f} s",
                err=True,
            )
            sys.stderr.flush()

    return report
