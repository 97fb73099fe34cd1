"""Measure the seconds until texts of one length are exact, for recipes in turns.

    python benchmarks/race.py BOOKS --tokens 12 --one-by-one kuratov2025+t1@lr=0.3 \
        --against tarasov2026@lr=0.3 -o benchmarks/results/race_k1.json

The first side is a recipe in the engine, with the restarts that `compress` gives it. `--one-by-one`
adds a recipe that crams one text at a time, `--against` one in the same engine. Each side has the
budget of its recipe, and decoding is part of its time. Only ratios within one run are compared.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
from memcram.compression.chunks import RESTARTS
from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.errors import MemcramError
from memcram.models import FrozenLM, decoding
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome
from memcram.texts.sources import make_source

# Distance between the seeds of a text's starts; a prime, so that no text gets another's seed.
START_STRIDE = 7_919


@dataclass(frozen=True)
class Side:
    """One way of making the texts exact.

    Attributes:
        recipe: with its own budget.
        one_by_one: cram one text at a time instead of as many as the engine's batch holds.
        restarts: further starts for a text that is not exact.
    """

    recipe: Recipe
    one_by_one: bool = False
    restarts: int = 0

    @property
    def name(self) -> str:
        """Name in the results."""
        return self.recipe.name + (", one by one" if self.one_by_one else "")


@dataclass(frozen=True)
class Lap:
    """One turn of one side: seconds with decoding, exact texts and token-steps."""

    seconds: float
    exact: int
    token_steps: int


def run_lap(lm: FrozenLM, side: Side, texts: Sequence[Tensor], vectors: int, seed: int) -> Lap:
    """Cram until every text is correct or given up, then decode all of them."""
    requests = [CramRequest(i, ids, vectors, seed + SEED_STRIDE * i) for i, ids in enumerate(texts)]
    starts = dict.fromkeys(range(len(texts)), 0)
    best: dict[Any, Crammed] = {}
    token_steps = 0

    def restart(crammed: Crammed) -> CramRequest | None:
        nonlocal token_steps
        token_steps += crammed.token_steps
        key = crammed.key
        assert isinstance(key, int)
        if key not in best or crammed.n_correct > best[key].n_correct:
            best[key] = crammed
        if crammed.outcome == Outcome.CORRECT or starts[key] >= side.restarts:
            return None
        starts[key] += 1
        return replace(requests[key], seed=requests[key].seed + START_STRIDE * starts[key])

    # A batch of one position has room for one text, whatever its length.
    engine = Engine(lm, side.recipe, batch_tokens=1 if side.one_by_one else None)
    started = time.perf_counter()
    for _ in engine.run(requests, follow_up=restart):
        pass
    together = len(texts) if not side.one_by_one else 1
    exact = 0
    for first in range(0, len(texts), together):
        wanted = texts[first : first + together]
        mems = [best[first + i].mem for i in range(len(wanted))]
        back = decoding.greedy(lm, mems, [len(ids) for ids in wanted])
        exact += sum(torch.equal(b.ids, ids) for b, ids in zip(back, wanted, strict=True))
    return Lap(time.perf_counter() - started, exact, token_steps)


def compare(theirs: Sequence[Lap], ours: Sequence[Lap], n_texts: int) -> dict[str, Any]:
    """Seconds of another side over those of the first, turn by turn, and how to read the ratio.

    A text that a side never makes exact counts with the time spent on it. If only the other side
    has such texts, the ratio is a lower bound; if the first side has them, it bounds nothing.
    """
    ratios = [a.seconds / b.seconds for a, b in zip(theirs, ours, strict=True)]
    if any(lap.exact < n_texts for lap in ours):
        reading = "no bound: the first side did not make every text exact"
    elif any(lap.exact < n_texts for lap in theirs):
        reading = "a lower bound: the other side did not make every text exact"
    else:
        reading = "every text exact on both sides"
    return {"ratio": statistics.median(ratios), "all": ratios, "reading": reading}


def race(
    lm: FrozenLM,
    sides: Sequence[Side],
    texts: Sequence[Tensor],
    vectors: int,
    seed: int,
    turns: int,
) -> list[dict[str, Any]]:
    """Run all sides in turns (A B C A B C …), after a short warm-up; one result per side."""
    warm_up = Side(sides[0].recipe.with_steps(2))
    run_lap(lm, warm_up, texts[:1], vectors, seed)
    laps: list[list[Lap]] = [[] for _ in sides]
    for _ in range(turns):
        for side, done in zip(sides, laps, strict=True):
            done.append(run_lap(lm, side, texts, vectors, seed))
            last = done[-1]
            click.echo(f"{side.name}: {last.seconds:.1f} s, {last.exact} of {len(texts)} exact")
    return [
        {
            "name": side.name,
            "settings": side.recipe.settings(),
            "restarts": side.restarts,
            "laps": [asdict(lap) for lap in done],
            "over_first": compare(done, laps[0], len(texts)),
        }
        for side, done in zip(sides, laps, strict=True)
    ]


@click.command()
@click.argument("books", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("-k", "--vectors", default=1, show_default=True)
@click.option("--tokens", default=12, show_default=True, help="Of each text.")
@click.option("--samples", default=32, show_default=True, help="Texts.")
@click.option("--recipe", default="default", show_default=True, help="Of the first side.")
@click.option("--one-by-one", multiple=True, metavar="RECIPE", help="One text at a time.")
@click.option("--against", multiple=True, metavar="RECIPE", help="In the same engine.")
@click.option("--seed", default=0, show_default=True)
@click.option("--turns", default=2, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(
    books: tuple[Path, ...],
    model: str,
    vectors: int,
    tokens: int,
    samples: int,
    recipe: str,
    one_by_one: tuple[str, ...],
    against: tuple[str, ...],
    seed: int,
    turns: int,
    output: Path | None,
) -> None:
    """Race recipes on texts of BOOKS (files, or folders of .txt)."""
    try:
        sides = [
            Side(memcram.get_recipe(recipe).for_one_text(), restarts=RESTARTS),
            *(Side(memcram.get_recipe(r).for_one_text(), one_by_one=True) for r in one_by_one),
            *(Side(memcram.get_recipe(r).for_one_text()) for r in against),
        ]
        lm = memcram.load_lm(model)
        source = make_source("files", path=books)
        drawn = source.sample(lm.tokenize, samples=samples, n_tokens=tokens, seed=seed)
        found = race(lm, sides, [sample.ids for sample in drawn], vectors, seed, turns)
    except MemcramError as error:
        raise click.ClickException(str(error)) from error
    for side in found[1:]:
        over = side["over_first"]
        click.echo(f"{side['name']}: {over['ratio']:.2f} times the seconds; {over['reading']}")
    if output is not None:
        conditions = {
            "model": asdict(lm.identity),
            "vectors": vectors,
            "tokens": tokens,
            "texts": [sample.id for sample in drawn],
            "seed": seed,
            "threads": torch.get_num_threads(),
            "device": str(lm.device),
            "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        }
        output.write_text(json.dumps(conditions | {"sides": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
