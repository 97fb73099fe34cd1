"""Are the paths of solutions as low-dimensional as they are because of the text?

    python benchmarks/path_noise.py NAME.study -o benchmarks/results/path_noise.json

Of each path that a study of seeds kept: how many principal axes take 90 and 99 % of its variance,
and how many take as much of a path of the same recipe, with as many steps and points, whose
gradients are independent normal noise and know of no text. A recipe is named by its study, which
must have recorded its settings, and they must be today's.
"""

import json
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

import memcram
from memcram.errors import MemcramError, UsageError
from memcram.files import check_writable, write_atomically
from memcram.recipes.recipe import Recipe
from memcram.report.ablation_data import axes_taken, way
from memcram.study.grid import deciding, resolve_model, study_recipe
from memcram.study.read import read_spec
from memcram.study.results import ResultRow
from memcram.study.spec import Spec
from memcram.study.store import Store

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What is counted of one path.

    Attributes:
        axes_90, axes_99: principal axes that take 90 and 99 % of the variance.
        direction_90, direction_99: the same of the points scaled to length 1.
        two_share: share of the variance on the first two.
        straightness: from start to end straight / along the points.
        norm: of the last point.
    """

    axes_90: float
    axes_99: float
    direction_90: float
    direction_99: float
    two_share: float
    straightness: float
    norm: float


@dataclass(frozen=True)
class Pair:
    """A path and its double made of noise."""

    recipe: str
    text_id: str
    seed: int
    exact: bool
    steps: int
    points: int
    path: Measured
    noise: Measured


def measured(points: Points) -> Measured:
    """Counts of a path (points, K · width)."""
    size = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    length = np.linalg.norm(points, axis=1)
    along = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    return Measured(
        axes_taken(points, 0.90),
        axes_taken(points, 0.99),
        axes_taken(points / length[:, None], 0.90),
        axes_taken(points / length[:, None], 0.99),
        float(size[:2].sum() / size.sum()),
        float(np.linalg.norm(points[-1] - points[0]) / along),
        float(length[-1]),
    )


def noise_path(
    recipe: Recipe, mem: torch.Tensor, std: float, steps: list[int], seed: int
) -> Points:
    """Points (points, K · width) of the recipe's optimiser on noise, at these steps.

    Args:
        recipe: its start, parametrisation and optimiser are taken.
        mem: (K, width) of the path beside it.
        std: deviation of the model's embeddings.
        steps: of that path.
        seed: of its start, and of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    vectors, width = mem.shape
    how = recipe.parametrisation
    start = recipe.start.draw((vectors, how.start_width(width)), std, generator).float()
    rows = {name: value[None] for name, value in how.init(start, width, generator).items()}
    state = {name: recipe.optimiser.init(value) for name, value in rows.items()}
    points = []
    for step in range(steps[-1] + 1):
        if step in steps:
            points.append(how.mem(rows).flatten().double().numpy().copy())
        for name, value in rows.items():
            noise = torch.randn(value.shape, generator=generator)
            recipe.optimiser.step(value, noise, state[name], [step + 1])
    return np.stack(points)


def recipe_of(store: Store, spec: Spec, row: ResultRow, recorded: dict[str, Any] | None) -> Recipe:
    """The recipe that led to a row, of which these settings were recorded.

    Raises:
        UsageError: its settings were not recorded, or are not those that its name has today.
    """
    if recorded is None:
        raise UsageError(
            f"STORE: the settings of {row.recipe!r} were not recorded in {str(store.folder)!r}; "
            "run the study anew"
        )
    recipe = study_recipe(spec, row.recipe)
    today = json.loads(json.dumps(deciding(recipe.settings())))
    if differ := [name for name, value in deciding(recorded).items() if today.get(name) != value]:
        raise UsageError(
            f"STORE: the recipe {row.recipe!r} of {str(store.folder)!r} had other settings "
            f"({', '.join(differ)}) than it has in this memcram; run the study anew"
        )
    return recipe


def embedding_std(spec: Spec, row: ResultRow) -> float:
    """Deviation of the embeddings of the model that a row was measured with.

    Raises:
        UsageError: the spec's model of that name has other weights now.
        ModelError: it can't be loaded.
    """
    for model, load in enumerate(spec.loads):
        if load.entry.id == row.model:
            lm = memcram.load_lm(
                resolve_model(spec, model),
                revision=load.entry.revision,
                device="cpu",
                layers=load.layers,
            )
            if lm.identity.fingerprint == row.fingerprint:
                return lm.embedding_std
    raise UsageError(f"STORE: no model {row.model!r} of its spec has the weights it was run with")


def pairs(store: Store) -> list[Pair]:
    """One for each solution whose path was kept."""
    spec = read_spec(store.spec_path, store.spec_folder)
    recorded = store.recipes()
    stds: dict[str, float] = {}
    found = []
    for row in store.rows():
        record = store.record(row.task)
        steps, points = way(record)
        if len(steps) < 3:
            continue
        recipe = recipe_of(store, spec, row, recorded.get(row.task))
        if row.fingerprint not in stds:
            stds[row.fingerprint] = embedding_std(spec, row)
        noise = noise_path(recipe, record.mem, stds[row.fingerprint], steps, row.seed)
        found.append(
            Pair(
                row.recipe,
                row.text_id,
                row.seed,
                row.exact,
                row.best_step,
                len(steps),
                measured(points),
                measured(noise),
            )
        )
    return found


def table(found: list[Pair]) -> str:
    """Medians and ranges by recipe."""
    lines = [f"{'recipe':<10} {'n':>3}  {'what':<13} {'path':>24} {'noise':>24}"]
    for recipe in dict.fromkeys(one.recipe for one in found):
        own = [one for one in found if one.recipe == recipe]
        for name in (field.name for field in fields(Measured)):
            cells = [
                [getattr(one.path, name) for one in own],
                [getattr(one.noise, name) for one in own],
            ]
            words = [
                f"{statistics.median(c):.4g} ({min(c):.4g} to {max(c):.4g})".rjust(24)
                for c in cells
            ]
            lines.append(f"{recipe:<10} {len(own):>3}  {name:<13} {' '.join(words)}")
    return "\n".join(lines)


@click.command()
@click.argument("store", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path))
def main(store: Path, output: Path | None) -> None:
    """Measure, print, and write JSON."""
    try:
        if output:
            check_writable(output, force=True)
        found = pairs(Store(store))
        if not found:
            raise UsageError(f"STORE: no path of three points or more in {str(store)!r}")
        click.echo(table(found))
        if output:
            content = json.dumps([asdict(one) for one in found], indent=1) + "\n"
            write_atomically(output, content.encode())
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
