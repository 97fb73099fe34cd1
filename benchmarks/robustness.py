"""Which margin survives? Texts polished to smallest margins, then decoded in other ways.

    python benchmarks/robustness.py --quick
    python benchmarks/robustness.py BOOKS -o benchmarks/results/robustness.json

Each text is crammed anew for each margin asked for, from the same start, so that a larger margin is
the same run taken further. The stored vectors are then decoded free-running: in batches of several
sizes, rounded to bfloat16, and with the model's weights in bfloat16. A text survives if every token
comes back. Only texts that are right when measured are asked; the others are counted apart.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

import memcram
from arena.bouts import Terms, cram_requests, progress
from arena.survival import draw_figure, summarise, survival_tables
from arena.texts import CHOOSING, REPORTING, draw, packaged_passage, read_books, split_books
from arena.trials_vectors import with_starts
from arena.variants import parse_entry
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.errors import MemcramError, UsageError
from memcram.files import check_writable, write_atomically
from memcram.models import FrozenLM, decoding
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Fixed
from memcram.texts import TextSample

MARGINS = (0.0, 0.02, 0.1, 0.3, 1.0, 2.0)
BATCHES = (1, 2, 7, 32)


@dataclass(frozen=True)
class Row:
    """One text polished to one margin.

    Attributes:
        id, origin, offset: of the sample; `offset` in characters.
        asked: smallest margin asked for, in logits.
        right: every token is the argmax under teacher forcing, as the stored vectors were measured.
        margin: the smallest margin then, in logits.
        steps, token_steps: spent on it.
        survives: whether free-running decoding returns it, by condition; empty if it is not right.
    """

    id: str
    origin: str
    offset: int
    asked: float
    right: bool
    margin: float
    steps: int
    token_steps: int
    survives: dict[str, bool]


@dataclass(frozen=True)
class Models:
    """The same model twice: as the texts are crammed, and with its weights in bfloat16."""

    usual: FrozenLM
    half: FrozenLM


def polished(recipe: Recipe, margin: float) -> Recipe:
    """The recipe that stops as soon as every margin exceeds `margin` logits, or at its budget.

    Raises:
        UsageError: its strategy takes no margin for texts of given length.
    """
    if not isinstance(recipe.strategy, Fixed):
        raise UsageError(
            f"--recipe: {recipe.name!r} has the strategy {type(recipe.strategy).__name__}, which "
            "has no margin to polish to; allowed: Fixed (NAME@strategy=Fixed)"
        )
    # The strategy's alone: `Recipe.with_margin` never lowers it, and makes the loss wider.
    return replace(recipe, strategy=replace(recipe.strategy, margin=margin))


def measure(
    models: Models, recipe: Recipe, samples: Sequence[TextSample], terms: Terms, margin: float
) -> list[Row]:
    """Cram all texts to one margin, and decode those that are right under every condition."""
    lm = models.usual
    asked = polished(recipe, margin)
    requests = with_starts(lm, asked, cram_requests(asked, [s.ids for s in samples], terms))
    report = progress(f"{recipe.name} to {margin:g} logits", terms.vectors)
    done = {crammed.key: crammed for crammed in Engine(lm, asked).run(requests, report)}
    crammed = [done[i] for i in range(len(samples))]
    right = [i for i, one in enumerate(crammed) if one.n_right == len(samples[i].ids)]
    texts = {i: samples[i].ids for i in right}
    found = survivals(models, [crammed[i] for i in right], [texts[i] for i in right])
    by_text = dict(zip(right, found, strict=True))
    return [
        Row(
            id=sample.id,
            origin=sample.origin,
            offset=sample.offset,
            asked=margin,
            right=i in texts,
            margin=one.margins.min().item(),
            steps=one.steps,
            token_steps=one.token_steps,
            survives=by_text.get(i, {}),
        )
        for i, (sample, one) in enumerate(zip(samples, crammed, strict=True))
    ]


def survivals(
    models: Models, crammed: Sequence[Crammed], texts: Sequence[torch.Tensor]
) -> list[dict[str, bool]]:
    """Of each text, whether decoding returns it, by condition."""
    lm, mems = models.usual, [one.mem for one in crammed]
    rounded = [mem.bfloat16().to(mem.dtype) for mem in mems]
    found: list[dict[str, bool]] = [{} for _ in texts]

    def note(condition: str, model: FrozenLM, vectors: list[torch.Tensor], batch: int) -> None:
        lengths = [len(ids) for ids in texts]
        # Texts of one length and K fill a batch up to the positions it may hold.
        room = batch * (len(vectors[0]) + max(lengths)) if vectors else 1
        back = decoding.greedy(model, vectors, lengths, batch_tokens=room)
        for one, decoded, ids in zip(found, back, texts, strict=True):
            one[condition] = torch.equal(decoded.ids, ids)

    for batch in BATCHES:
        note(f"batches of {batch}", lm, mems, batch)
    note("bfloat16 vectors", lm, rounded, BATCHES[-1])
    note("bfloat16 model", models.half, mems, BATCHES[-1])
    return found


# -- command ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """How much is measured where nothing else is asked for."""

    samples: int
    steps: int | None


FULL = Size(samples=32, steps=None)
QUICK = Size(samples=6, steps=200)


@click.command()
@click.argument("texts", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("--device", help="As `load_lm` takes it.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("-k", "--vectors", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--samples", type=click.IntRange(min=1), help="Texts.  [default: 32]")
@click.option("--tokens", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--recipe", "-r", default="default", show_default=True, help="As the arena takes it.")
@click.option("--steps", type=click.IntRange(min=1), help="Budget.  [default: the recipe's]")
@click.option("--half", type=click.Choice([CHOOSING, REPORTING]), default=REPORTING)
@click.option("--seed", default=0, show_default=True)
@click.option("--quick", is_flag=True, help="Small, under 2 minutes; TEXTS may be left out.")
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for PNG and SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON.")
def main(**options: Any) -> None:
    """Measure which margin survives on TEXTS (files, or folders of .txt)."""
    try:
        run(**options)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


def run(
    *,
    texts: tuple[Path, ...],
    model: str,
    device: str | None,
    dtype: Any,
    vectors: int,
    samples: int | None,
    tokens: int,
    recipe: str,
    steps: int | None,
    half: str,
    seed: int,
    quick: bool,
    figures: Path | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """The command, after parsing."""
    if not texts and not quick:
        raise UsageError("TEXTS: got none, allowed: files or folders of .txt (or --quick)")
    if output:
        check_writable(output, force=True)
    size = QUICK if quick else FULL
    steps = steps or size.steps
    chosen = parse_entry(recipe).recipe
    polished(chosen, 0.0)
    chosen = chosen.with_steps(steps) if steps else chosen
    contents = _books(texts, half)
    models = Models(
        memcram.load_lm(model, device=device, dtype=dtype),
        memcram.load_lm(model, device=device, dtype="bfloat16"),
    )
    drawn = draw(
        models.usual, contents, samples=samples or size.samples, max_tokens=tokens, seed=seed
    )
    terms = Terms(vectors, budget=0, grid=None, seed=seed)
    rows = [row for m in MARGINS for row in measure(models, chosen, drawn, terms, m)]
    plain = [asdict(row) for row in rows]
    report = {
        "model": asdict(models.usual.identity),
        "dtype": models.usual.dtype_name,
        "device": str(models.usual.device),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "settings": chosen.settings(),
        "vectors": vectors,
        "tokens": tokens,
        "books": {half: sorted(contents)},
        **summarise(plain),
        "rows": plain,
    }
    if output:
        write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())
    for path in draw_figure(report, figures) if figures else ():
        click.echo(f"  wrote {path}", err=True)
    click.echo(json.dumps(report, indent=1) if as_json else survival_tables(report))


def _books(paths: tuple[Path, ...], half: str) -> dict[str, str]:
    """The books of one half, or the packaged passage."""
    if not paths:
        return packaged_passage()
    contents = read_books(paths)
    return {name: contents[name] for name in split_books(list(contents))[half]}


if __name__ == "__main__":
    main()
