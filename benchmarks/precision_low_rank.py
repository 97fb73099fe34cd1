"""Compare vectors e = W z, with one W per archive, with vectors stored directly, by their bytes.

    python benchmarks/precision_low_rank.py pocket --text BOOK.txt --text BOOK.txt -o low_rank.json

A random W with orthonormal columns costs no bytes, because a reader can draw it again from its
seed. A W trained on other texts (e = W z + b in one batch, then its columns orthonormalised) is
stored once. Either is frozen, and z alone is trained for each text, then rounded like a vector with
`compress --store`. Every number of tokens is decoded free-running from the rounded values.
"""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
import precision
from memcram.compression.codec import archive_recipe
from memcram.engine.loop import Engine
from memcram.engine.storing import OnGrid, storing_recipe
from memcram.metrics.statistics import spread
from memcram.models import FrozenLM
from memcram.quantisation import PRECISIONS, rounded, row_bytes, scales_of
from memcram.recipes.component import component
from memcram.recipes.parametrisations import Direct, LowDim, Parameters
from memcram.recipes.recipe import Recipe

SCALE_BYTES = 4
CHUNKS = (10, 100, 1000)
# W of each name, (width, k); a parametrisation is a value that can be compared and printed.
_MAPS: dict[str, Tensor] = {}


def random_map(width: int, k: int, seed: int) -> str:
    """Draw W with orthonormal columns; coordinates of W z are as large as those of z.

    Returns the name under which it is kept.
    """
    generator = torch.Generator().manual_seed(seed)
    return orthonormal(torch.randn(width, k, generator=generator), f"random, k={k}, seed={seed}")


def orthonormal(weight: Tensor, name: str) -> str:
    """Keep the orthonormalised columns of a map (width, k), scaled, as `name`."""
    width, k = weight.shape
    _MAPS[name] = torch.linalg.qr(weight.double())[0].mul((width / k) ** 0.5).float()
    return name


@component
class Projected:
    """e = W z, with a frozen W.

    Attributes:
        map_name: of W.
    """

    map_name: str

    @property
    def shared(self) -> tuple[str, ...]:
        """Nothing is trained that texts share."""
        return ()

    def start_width(self, input_width: int) -> int:
        """The coordinates of z."""
        return _MAPS[self.map_name].shape[1]

    def init(self, start: Tensor, input_width: int, generator: torch.Generator) -> Parameters:
        """`z` (K, k), a copy of `start`."""
        return {"z": start.clone()}

    def at(self, mem: Tensor, parameters: Parameters) -> Parameters:
        """The z whose W z is nearest to `mem`."""
        return {"z": mem @ torch.linalg.pinv(_MAPS[self.map_name]).mT}

    def mem(self, parameters: Parameters) -> Tensor:
        """W z of every row, (slot, K, width)."""
        z = parameters["z"]
        across = _MAPS[self.map_name].to(z).mT
        return torch.cat([one @ across for one in z.split(1, dim=0)])

    def for_one_text(self) -> "Projected":
        """The same: nothing is shared."""
        return self


@component
class ProjectedOnGrid(OnGrid):
    """e = W z, with z on the values of a storage precision.

    Attributes:
        map_name: of W.
    """

    map_name: str = ""

    def mem(self, parameters: Parameters) -> Tensor:
        """W z of every row, (slot, K, width)."""
        return Projected(self.map_name).mem({"z": super().mem(parameters)})

    def start_width(self, input_width: int) -> int:
        """The coordinates of z, and one more for the scale."""
        return _MAPS[self.map_name].shape[1] + 1


def cram(lm: FrozenLM, recipe: Recipe, ids: list[Tensor]) -> list[precision.Text]:
    """Cram all texts into one vector each."""
    requests = [memcram.CramRequest(i, row, 1, i) for i, row in enumerate(ids)]
    done = {one.key: one for one in Engine(lm, recipe).run(requests)}
    return [precision.Text(done[i].mem, done[i].n_correct) for i in range(len(ids))]


def stored(
    lm: FrozenLM, recipe: Recipe, name: str, ids: list[Tensor], plain: list[precision.Text]
) -> list[int]:
    """Round z (or e) of each text as `compress --store` does; return the exact prefixes."""
    requests = []
    grids = storing_recipe(recipe, name, may_cut=True)
    kind = recipe.parametrisation
    pinv = None
    if isinstance(kind, Projected):
        pinv = torch.linalg.pinv(_MAPS[kind.map_name]).mT
        grids = replace(grids, parametrisation=ProjectedOnGrid(name, kind.map_name))
    mems = [one.mem for one in plain]
    for i, one in enumerate(plain):
        z = one.mem if pinv is None else one.mem @ pinv
        start = torch.cat([z, scales_of(z, name)[:, None]], 1)
        if one.n_correct:
            requests.append(memcram.CramRequest(i, ids[i][: one.n_correct], 1, start=start))
        else:
            near = start[:, -1:] * rounded(z / start[:, -1:], name)
            mems[i] = near if pinv is None else near @ _MAPS[kind.map_name].mT
    for crammed in Engine(lm, grids, compute_dtype=lm.dtype).run(requests):
        assert isinstance(crammed.key, int)
        mems[crammed.key] = crammed.mem
    held: list[int] = precision.measured(lm, ids, plain, mems)
    return held


def trained_map(lm: FrozenLM, recipe: Recipe, ids: list[Tensor], k: int) -> str:
    """Train W on all of these texts at once; return the name of its orthonormalised columns."""
    shared = replace(recipe, parametrisation=LowDim(k=k, in_group=True), group_size=len(ids))
    requests = [memcram.CramRequest(i, row, 1, i, group=0) for i, row in enumerate(ids)]
    engine = Engine(lm, shared)
    weights: dict[str, Tensor] = {}

    def watch(status: Any) -> None:
        batch, _ = engine._in_progress
        if batch.slots:
            weights["last"] = batch.rows.parameters["weight"].value[0].clone()

    list(engine.run(requests, watch))
    return orthonormal(weights["last"], f"trained, k={k}")


def _over(n_bytes: float, tokens: float) -> float | None:
    return round(n_bytes / tokens, 2) if tokens else None


def row(held: list[int], k: int, name: str, map_bytes: int, **more: Any) -> dict[str, Any]:
    """One row of the table: tokens, and bytes per token with and without W."""
    whole = spread(held, 0)
    own = row_bytes(k, PRECISIONS[name]) + (0 if name == "float32" else SCALE_BYTES)
    return {
        **more,
        "k": k,
        "precision": name,
        "mean_tokens": round(whole.mean, 2),
        "interval": [round(end, 2) for end in whole.ci95] if whole.ci95 else None,
        "bytes_per_vector": own,
        "bytes_of_map": map_bytes,
        "bytes_per_token": {
            "without W": _over(own, whole.mean),
            **{f"W of {n} chunks": _over(own + map_bytes / n, whole.mean) for n in CHUNKS},
        },
        "tokens_per_text": held,
    }


@click.command()
@click.argument("model")
@click.option("--text", "files", multiple=True, type=Path, required=True, help="A book.")
@click.option("--train", "train_files", multiple=True, type=Path, help="A book to train W on.")
@click.option("--texts", default=8, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Longest text.")
@click.option("--steps", default=300, show_default=True)
@click.option("--k", "sizes", multiple=True, type=int, default=(16, 32, 64, 128, 256))
@click.option("--trained-k", "trained_sizes", multiple=True, type=int, default=(64, 128))
@click.option("--precision", "names", multiple=True, default=("int5", "int3"))
@click.option("--rate", default=1.0, show_default=True, help="Learning rate of z.")
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def main(
    model: str,
    files: tuple[Path, ...],
    train_files: tuple[Path, ...],
    texts: int,
    tokens: int,
    steps: int,
    sizes: tuple[int, ...],
    trained_sizes: tuple[int, ...],
    names: tuple[str, ...],
    rate: float,
    output: Path,
) -> None:
    """Cram passages with and without a shared map, and count tokens and bytes."""
    lm = memcram.load_lm(model, device="cpu")
    ids = precision.passages(lm, files, texts, tokens)
    width = lm.input_width
    direct = archive_recipe(f"direct@lr={rate}", steps, lm).for_horizon()
    mapped = archive_recipe("low-dim", steps, lm).for_horizon()
    kinds: list[tuple[str, Recipe, int, int]] = [
        ("direct, recipe low-dim", mapped, width, 0),
        ("direct, recipe direct", replace(direct, parametrisation=Direct()), width, 0),
    ]
    for k in sizes:
        if k <= width:
            made = Projected(random_map(width, k, seed=0))
            kinds.append(("random W", replace(direct, parametrisation=made), k, 0))
    others = precision.passages(lm, train_files, texts, tokens) if train_files else []
    for k in trained_sizes if others else ():
        made = Projected(trained_map(lm, mapped, others, k))
        of_map = SCALE_BYTES * width * k
        kinds.append(("W of other texts", replace(direct, parametrisation=made), k, of_map))
    rows = []
    for kind, recipe, k, of_map in kinds:
        plain = cram(lm, recipe, ids)
        found = {"float32": precision.measured(lm, ids, plain, [one.mem for one in plain])}
        found |= {name: stored(lm, recipe, name, ids, plain) for name in names}
        for name, held in found.items():
            rows.append(row(held, k, name, of_map, vectors=kind))
            click.echo(json.dumps(rows[-1]))
        report = {
            "model": Path(model).name,
            "texts": [path.name for path in files],
            "texts_of_map": [path.name for path in train_files],
            "n": texts,
            "width": width,
            "steps": steps,
            "rate": rate,
            "rows": rows,
            "versions": {one: version(one) for one in ("memcram", "torch", "transformers")},
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
