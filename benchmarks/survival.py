"""Measure which tokens survive other ways to compute, by storage precision and margin.

    python benchmarks/survival.py MODEL --text BOOK.txt --text BOOK.txt -o survival_pocket.json

Vectors are crammed, stored in each precision as `compress --store` does it, and decoded freely for
longer than the text they hold, so that tokens of every margin occur. The tokens found are then
predicted again, given those before them, under each condition: other batch sizes, threads,
attention kernels, weights, with and without the cache. A token survives where it is the argmax
again. A chunk is exact where all tokens of the text survive, which is free-running exactness.
"""

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import memcram
import precision
from memcram.archive.corrections import GUARD_MARGINS
from memcram.compression.codec import archive_recipe
from memcram.models import FrozenLM, decoding, scoring
from memcram.models.decoding import Decoded

NAMES = ("float32", "bfloat16", "float16", "int8", "int5", "int4", "int3")
EDGES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, float("inf"))
# (vectors of each text, tokens of each text) to the margins of those tokens, negative where
# another token is the argmax
Way = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def cached(lm: FrozenLM, batch: int | None = None) -> Way:
    """Decoding with the cache, `batch` texts at a time."""

    def run(mems: Sequence[Tensor], ids: Sequence[Tensor]) -> list[Tensor]:
        found: list[Decoded] = []
        size = batch or len(mems)
        for at in range(0, len(mems), size):
            some, their = mems[at : at + size], ids[at : at + size]
            found += decoding.greedy(lm, some, [len(one) for one in their], forced=their)
        return [one.margins for one in found]

    return run


def uncached(lm: FrozenLM, batch: int | None = None) -> Way:
    """One forward pass over all positions, `batch` texts at a time."""

    def run(mems: Sequence[Tensor], ids: Sequence[Tensor]) -> list[Tensor]:
        size = batch or len(mems)
        found = []
        for at in range(0, len(mems), size):
            found += scoring.score(lm, ids[at : at + size], mems[at : at + size])
        return [one.margins for one in found]

    return run


def transformers_alone(lm: FrozenLM) -> Way:
    """The transformers module, with the attention kernel that torch chooses."""

    def run(mems: Sequence[Tensor], ids: Sequence[Tensor]) -> list[Tensor]:
        embeds = torch.stack(
            [torch.cat([mem, lm.embed(one[:-1])]) for mem, one in zip(mems, ids, strict=True)]
        )
        with torch.no_grad():
            logits = lm.module(inputs_embeds=embeds, use_cache=False).logits
        first = len(mems[0]) - 1
        target = torch.stack(list(ids))[..., None]
        own = logits[:, first:].gather(-1, target)
        others = logits[:, first:].scatter(-1, target, -torch.inf).amax(-1, keepdim=True)
        return list((own - others)[..., 0].float())

    return run


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threaded(count: int, path: Way) -> Way:
    """`path` on `count` threads."""

    def run(mems: Sequence[Tensor], ids: Sequence[Tensor]) -> list[Tensor]:
        with _threads(count):
            return path(mems, ids)

    return run


def conditions(lm: FrozenLM, model: str) -> dict[str, Way]:
    """All conditions, by name; the reference is decoding with the cache, all texts at once."""
    eager = memcram.load_lm(model, device="cpu", attention="eager")
    return {
        "cached, batch of 1": cached(lm, 1),
        "cached, batch of 7": cached(lm, 7),
        "cached, 2 threads": threaded(2, cached(lm)),
        "cached, 4 threads": threaded(4, cached(lm)),
        "uncached": uncached(lm),
        "uncached, batch of 1": uncached(lm, 1),
        "uncached, 2 threads": threaded(2, uncached(lm)),
        "eager, cached": cached(eager),
        "eager, uncached": uncached(eager),
        "sdpa, torch's choice of kernel": transformers_alone(lm),
        "float64 weights": uncached(lm.in_dtype(torch.float64)),
        "bfloat16 weights, cached": cached(lm.in_dtype(torch.bfloat16)),
        "bfloat16 weights, uncached": uncached(lm.in_dtype(torch.bfloat16)),
    }


def compared(reference: list[Tensor], found: list[Tensor], held: Sequence[int]) -> dict[str, Any]:
    """Survival of tokens by the bin of their margin, and of chunks.

    Args:
        reference: per text the margins (n,) of the tokens, not negative.
        found: the same under another condition.
        held: tokens of each text that its vectors hold.
    """
    before, after = torch.cat(reference).double(), torch.cat(found).double()
    lost = ~(after > 0)
    shift = (after - before).abs()
    bins = []
    for low, high in pairwise(EDGES):
        inside = (before >= low) & (before < high)
        n = int(inside.sum())
        bins.append({"from": low, "n": n, "survived": n - int((inside & lost).sum())})
    exact = sum(bool((one[:n] > 0).all()) for one, n in zip(found, held, strict=True))
    return {
        "tokens": len(before),
        "lost": int(lost.sum()),
        "max_margin_lost": before[lost].max().item() if lost.any() else None,
        "max_shift": shift.max().item(),
        "median_shift": shift.median().item(),
        "chunks": len(held),
        "chunks_exact": exact,
        "bins": bins,
    }


@click.command()
@click.argument("model")
@click.option("--text", "files", multiple=True, type=Path, required=True, help="A book.")
@click.option("--texts", default=32, show_default=True)
@click.option("--tokens", default=64, show_default=True, help="Longest text, and those decoded.")
@click.option("--steps", default=400, show_default=True)
@click.option("--recipe", default="default", show_default=True)
@click.option("--precision", "names", multiple=True, default=NAMES, help="Instead of all.")
@click.option("--work", type=Path, help="File that keeps the crammed vectors.")
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def main(
    model: str,
    files: tuple[Path, ...],
    texts: int,
    tokens: int,
    steps: int,
    recipe: str,
    names: tuple[str, ...],
    work: Path | None,
    output: Path,
) -> None:
    """Store vectors of MODEL in each precision, and decode them under each condition."""
    lm = memcram.load_lm(model, device="cpu")
    ids = precision.passages(lm, files, texts, tokens)
    chosen = archive_recipe(recipe, steps, lm).for_horizon()
    plain = precision.cram(lm, chosen, ids, 1, work)
    ways = conditions(lm, model)
    found: dict[str, Any] = {}
    for name in names:
        mems, _ = precision.store(lm, chosen, name, ids, plain)
        held = precision.measured(lm, ids, plain, mems)
        decoded = decoding.greedy(lm, mems, [tokens] * texts)
        own = [one.ids for one in decoded]
        reference = [one.margins for one in decoded]
        inside = torch.cat([one[:n] for one, n in zip(reference, held, strict=True)])
        found[name] = {
            "tokens_held": sum(held),
            "min_margin_held": inside.min().item(),
            "conditions": {
                way: compared(reference, path(mems, own), held) for way, path in ways.items()
            },
        }
        for way, one in found[name]["conditions"].items():
            click.echo(f"{name}, {way}: {one['lost']} lost, shift {one['max_shift']:.2g}")
        report = {
            "model": Path(model).name,
            "texts": [path.name for path in files],
            "n": texts,
            "tokens": tokens,
            "recipe": recipe,
            "steps": steps,
            "guard_margin": GUARD_MARGINS[lm.dtype],
            "machine": platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "precisions": found,
            "versions": {one: version(one) for one in ("memcram", "torch", "transformers")},
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
