"""Measure how many tokens vectors hold at each number of bits per dimension.

    python benchmarks/precision.py measure MODEL --text BOOK.txt --text BOOK.txt -o pocket_k1.json
    python benchmarks/precision.py measure MODEL --study NAME.study -o full.json
    python benchmarks/precision.py side-by-side MODEL --text BOOK.txt -o side_by_side.json
    python benchmarks/precision.py figure pocket_k1.json pocket_k4.json -o precision.png

Each text is crammed once in the model's dtype, or taken from the store of a study of horizons with
the vectors kept there. The vectors are then stored in each precision as `compress --store` does it,
and decoded free-running from the stored codes.
"""

import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import safetensors.torch
import torch
from torch import Tensor

import memcram
from memcram.compression.codec import archive_recipe
from memcram.compression.storing import Storer
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.engine.storing import storing_recipe
from memcram.metrics.bound import capacity_bound
from memcram.metrics.statistics import spread
from memcram.models import FrozenLM, decoding
from memcram.models.accounting import exact_prefix
from memcram.quantisation import PRECISIONS, decode, encode, scales_of
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Outcome
from memcram.study.read import read_spec
from memcram.study.store import Store

NAMES = ("float32", *(f"int{bits}" for bits in (8, 6, 5, 4, 3, 2, 1)))


def passages(lm: FrozenLM, files: tuple[Path, ...], texts: int, tokens: int) -> list[Tensor]:
    """Passages of the files in turn, each beginning at a word."""
    found = []
    for i in range(texts):
        text = files[i % len(files)].read_text("utf-8")
        part = (i // len(files) + 0.37) / ((texts - 1) // len(files) + 1)
        at = text.index(" ", int(len(text) * part)) + 1
        found.append(torch.tensor(lm.tokenize(text[at : at + 8 * tokens]))[:tokens])
    return found


@dataclass(frozen=True)
class Text:
    """Vectors (K, width) of a text, and how many of its tokens they hold."""

    mem: Tensor
    n_correct: int


def cram(
    lm: FrozenLM, recipe: Recipe, ids: list[Tensor], vectors: int, work: Path | None
) -> list[Text]:
    """Cram the texts in the model's dtype, or read what an earlier call kept in `work`."""
    if work is None or not work.exists():
        requests = [memcram.CramRequest(i, row, vectors, i) for i, row in enumerate(ids)]
        done = {one.key: one for one in Engine(lm, recipe).run(requests)}
        kept = {f"mem{i}": done[i].mem for i in range(len(ids))}
        kept["held"] = torch.tensor([done[i].n_correct for i in range(len(ids))])
        if work is not None:
            safetensors.torch.save_file(kept, work)
    else:
        kept = safetensors.torch.load_file(work)
    return [Text(kept[f"mem{i}"], held) for i, held in enumerate(kept["held"].tolist())]


def from_study(folder: Path, texts: int, vectors: int) -> tuple[list[Tensor], list[Text]]:
    """Token ids, vectors and horizons of the first texts with K vectors in a study of horizons."""
    opened = Store(folder)
    rows = [row for row in opened.rows() if row.vectors == vectors][:texts]
    if not rows:
        raise click.BadParameter(f"{folder.name} has no texts with {vectors} vectors")
    records = [opened.record(row.task) for row in rows]
    opened.close()
    found = [Text(one.mem, row.horizon) for row, one in zip(rows, records, strict=True)]
    return [one.ids for one in records], found


def store(lm: FrozenLM, recipe: Recipe, name: str, ids: list[Tensor], plain: list[Text]) -> Any:
    """Store vectors in a precision; return per text the vectors read back and finishing steps."""
    scales = [scales_of(one.mem, name) for one in plain]
    if name == "float32":
        return [one.mem for one in plain], [0] * len(plain)
    requests = [
        memcram.CramRequest(
            i,
            ids[i][: one.n_correct],
            len(one.mem),
            start=torch.cat([one.mem, scales[i][:, None]], 1),
        )
        for i, one in enumerate(plain)
        if one.n_correct
    ]
    engine = Engine(lm, storing_recipe(recipe, name, may_cut=True), compute_dtype=lm.dtype)
    done = {one.key: one for one in engine.run(requests)}
    found = [done[i].mem if i in done else one.mem for i, one in enumerate(plain)]
    codes = [encode(mem, one, name) for mem, one in zip(found, scales, strict=True)]
    mems = [decode(code, one, name, lm.dtype) for code, one in zip(codes, scales, strict=True)]
    return mems, [done[i].steps if i in done else 0 for i in range(len(plain))]


def crammed_of(one: Text) -> Crammed:
    """The result of cramming as `Storer` takes it; it reads vectors and tokens held."""
    none = torch.zeros(0)
    outcome = Outcome.BUDGET_EXHAUSTED
    return Crammed(0, one.mem, outcome, one.n_correct, none, none, 0, 0, 0, 0.0, none, none)


def measured(lm: FrozenLM, ids: list[Tensor], plain: list[Text], mems: list[Tensor]) -> Any:
    """Decode free-running; return the exact prefix of each text, within what float32 held."""
    lengths = [one.n_correct for one in plain]
    decoded = decoding.greedy(lm, mems, [max(1, n) for n in lengths])
    return [
        exact_prefix(one.ids, row[:n]) for one, row, n in zip(decoded, ids, lengths, strict=True)
    ]


@click.group()
def main() -> None:
    """Bits per dimension against tokens held."""


@main.command()
@click.argument("model")
@click.option("--text", "files", multiple=True, type=Path, help="A book.")
@click.option("--study", type=Path, help="NAME.study, instead of books and cramming.")
@click.option("--vectors", "-K", default=1, show_default=True)
@click.option("--texts", default=16, show_default=True)
@click.option("--tokens", default=96, show_default=True, help="Longest text.")
@click.option("--steps", default=1000, show_default=True)
@click.option("--recipe", default="default", show_default=True)
@click.option("--precision", "names", multiple=True, default=NAMES, help="Instead of all.")
@click.option("--work", type=Path, help="File that keeps the crammed vectors.")
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def measure(
    model: str,
    files: tuple[Path, ...],
    study: Path | None,
    vectors: int,
    texts: int,
    tokens: int,
    steps: int,
    recipe: str,
    names: tuple[str, ...],
    work: Path | None,
    output: Path,
) -> None:
    """Cram passages with MODEL, and store their vectors in each precision."""
    lm = memcram.load_lm(model, device="cpu")
    chosen = archive_recipe(recipe, steps, lm).for_horizon()
    if study is None:
        ids = passages(lm, files, texts, tokens)
        plain = cram(lm, chosen, ids, vectors, work)
    else:
        ids, plain = from_study(study, texts, vectors)
    found: dict[str, Any] = {}
    for name in names:
        mems, finishing = store(lm, chosen, name, ids, plain)
        held = measured(lm, ids, plain, mems)
        whole = spread(held, 0)
        found[name] = {
            "bits_per_dimension": PRECISIONS[name],
            "mean_tokens": round(whole.mean, 2),
            "interval": [round(end, 2) for end in whole.ci95] if whole.ci95 else None,
            "bound_tokens": vectors
            * capacity_bound(lm.input_width, lm.vocab_size, bits=PRECISIONS[name]),
            "texts_unchanged": sum(n == one.n_correct for n, one in zip(held, plain, strict=True)),
            "mean_finishing_steps": sum(finishing) / len(plain),
            "tokens_per_text": held,
        }
        click.echo(f"{name}: {found[name]}")
        report = {
            "model": Path(model).name,
            "texts": [path.name for path in files] if study is None else study.name,
            "n": len(plain),
            "vectors": vectors,
            "width": lm.input_width,
            "vocab_size": lm.vocab_size,
            "recipe": recipe,
            "steps": steps if study is None else None,
            "token_steps": study and read_spec(study / "study.toml").study.token_steps,
            "precisions": found,
            "versions": {one: version(one) for one in ("memcram", "torch", "transformers")},
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@main.command()
@click.argument("model")
@click.option("--text", "files", multiple=True, type=Path, required=True, help="A book.")
@click.option("--texts", default=16, show_default=True)
@click.option("--tokens", default=48, show_default=True, help="Longest text.")
@click.option("--steps", default=300, show_default=True)
@click.option("--store", "name", default="least", show_default=True)
@click.option("--turns", default=1, show_default=True, help="Each times both ways.")
@click.option("--work", type=Path, help="File that keeps the crammed vectors.")
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def side_by_side(
    model: str,
    files: tuple[Path, ...],
    texts: int,
    tokens: int,
    steps: int,
    name: str,
    turns: int,
    work: Path | None,
    output: Path,
) -> None:
    """Time storing chunks one at a time and side by side; both must give the same vectors."""
    lm = memcram.load_lm(model, device="cpu")
    ids = passages(lm, files, texts, tokens)
    recipe = archive_recipe("default", steps, lm).for_horizon()
    plain = cram(lm, recipe, ids, 1, work)
    storer = Storer(lm, recipe, name)
    pairs = [(row, crammed_of(one)) for row, one in zip(ids, plain, strict=True)]
    seconds: dict[str, list[float]] = {"one at a time": [], "side by side": []}
    for _ in range(turns):
        began = time.process_time()
        alone = [storer.store([pair])[0] for pair in pairs]
        between = time.process_time()
        together = storer.store(pairs)
        seconds["one at a time"].append(between - began)
        seconds["side by side"].append(time.process_time() - between)
        for (one, how), (other, its) in zip(alone, together, strict=True):
            if not torch.equal(one.mem, other.mem) or how.precision != its.precision:
                raise click.ClickException("side by side, a chunk has other vectors")
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    report = {
        "model": Path(model).name,
        "store": name,
        "n": texts,
        "cpu_seconds": seconds,
        "ratios": ratios,
        "precisions": sorted(how.precision for _, how in together),
        "threads": torch.get_num_threads(),
        "versions": {one: version(one) for one in ("memcram", "torch", "transformers")},
    }
    click.echo(json.dumps(report))
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@main.command()
@click.argument("results", nargs=-1, required=True, type=Path)
@click.option("-o", "--output", type=Path, required=True, help="PNG file to write.")
def figure(results: tuple[Path, ...], output: Path) -> None:
    """Draw RESULTS of `measure` next to each other, with the capacity bound."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    shape = {"sharex": True, "sharey": True, "squeeze": False, "figsize": (3.6 * len(results), 3.4)}
    drawn, axes = plt.subplots(1, len(results), layout="constrained", **shape)
    for axis, path in zip(axes[0], results, strict=True):
        report = json.loads(path.read_text("utf-8"))
        rows = sorted(report["precisions"].values(), key=lambda row: row["bits_per_dimension"])
        bits = [row["bits_per_dimension"] for row in rows]
        means = [row["mean_tokens"] for row in rows]
        low = [row["mean_tokens"] - row["interval"][0] for row in rows]
        high = [row["interval"][1] - row["mean_tokens"] for row in rows]
        axis.errorbar(bits, means, yerr=[low, high], marker="o", capsize=2, label="held, exact")
        axis.plot(bits, [row["bound_tokens"] for row in rows], "--", color="grey", label="bound")
        axis.set(xscale="log", yscale="log", xlabel="bits per dimension")
        axis.set_xticks([1, 2, 3, 4, 6, 8, 32], ["1", "2", "3", "4", "6", "8", "32"])
        axis.minorticks_off()
        name = report["model"].removesuffix(".gguf").split("-Instruct")[0]
        steps, token_steps = report["steps"], report.get("token_steps")
        budget = f"{token_steps:,} token-steps" if token_steps else f"{steps} steps"
        title = f"{name}, K = {report['vectors']}\n{budget}, n = {report['n']}"
        axis.set_title(title, fontsize=10)
    axes[0][0].set_ylabel("tokens")
    axes[0][0].legend()
    drawn.savefig(output, dpi=150)


if __name__ == "__main__":
    main()
