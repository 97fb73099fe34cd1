"""Measure what low precision, oneDNN and the sparse head gain, as ratios within one run.

    python benchmarks/fast.py MODEL --part steps -o benchmarks/results/fast.json

MODEL is a packaged name, folder or hub id; `pocket` and SmolLM2-135M-Instruct for most parts, one
with a large vocabulary (Gemma-3-270M) for `memory`. The former path, with all logits and
MKL's float32 products, is still in the package as the fallback, and is switched on here.
"""

import contextlib
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import torch
from torch import Tensor

import memcram
from memcram.engine.compute import ComputeDtype
from memcram.engine.loop import Engine
from memcram.engine.result import Crammed
from memcram.models import FrozenLM, decoding, linear
from memcram.models.accounting import exact_prefix
from memcram.recipes.strategies.fixed import Fixed

TOKENS = 64
OUT_OF_REACH = 1e30


@dataclass(frozen=True)
class Side:
    """One way of optimising.

    Attributes:
        compute_dtype: of the trunk.
        former: with all logits, and MKL for float32.
        compiled: with compiled decoder layers; for `steps` and `certified`.
    """

    compute_dtype: ComputeDtype
    former: bool = False
    compiled: bool = False

    @contextlib.contextmanager
    def switched(self) -> Iterator[None]:
        """Switch to the former path where this side asks for it."""
        before = linear._IS_AVAILABLE, FrozenLM.has_sparse_margins
        if self.former:
            linear._IS_AVAILABLE = False
            FrozenLM.has_sparse_margins = False  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            linear._IS_AVAILABLE = before[0]
            FrozenLM.has_sparse_margins = before[1]  # type: ignore[method-assign]


SIDES = {
    "former float32": Side("float32", former=True),
    "float32": Side("float32"),
    "bfloat16": Side("bfloat16"),
}


def token_rows(lm: FrozenLM, rows: int, tokens: int) -> list[Tensor]:
    """Passages of the demo text, evenly spread; they may overlap."""
    text = files("memcram").joinpath("data/demo.txt").read_text("utf-8")
    ids = torch.tensor(lm.tokenize(text))
    last = len(ids) - tokens
    return [ids[i * last // max(1, rows - 1) :][:tokens] for i in range(rows)]


# -- steps --------------------------------------------------------------------------------------


def step_seconds(lm: FrozenLM, side: Side, texts: Sequence[Tensor], vectors: int) -> float:
    """Seconds of the fastest of a few steps of all texts in one batch."""
    recipe = memcram.get_recipe("default")
    recipe = replace(recipe, strategy=Fixed(steps=4, margin=OUT_OF_REACH))
    requests = [memcram.CramRequest(i, ids, vectors) for i, ids in enumerate(texts)]
    ticks: list[float] = []
    with side.switched():
        engine = Engine(lm, recipe, compute_dtype=side.compute_dtype, compile_trunk=side.compiled)
        engine._finisher = None
        for _ in engine.run(requests, lambda _: ticks.append(time.perf_counter())):
            pass
    # The first step prepares kernels; the last measurement takes no step.
    return min(after - before for before, after in pairwise(ticks[:-1]))


def steps_part(lm: FrozenLM, texts: int, repeats: int) -> dict[str, Any]:
    """Seconds per step of each side in turns, and the ratios to the former path."""
    rows = token_rows(lm, texts, TOKENS)
    sides = SIDES | {"bfloat16, compiled": Side("bfloat16", compiled=True)}
    turns: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            turns[name].append(step_seconds(lm, side, rows, vectors=4))
    former = turns["former float32"]
    return {
        "texts": texts,
        "tokens": TOKENS,
        "seconds": turns,
        "speedup": {
            name: statistics.median(a / b for a, b in zip(former, times, strict=True))
            for name, times in turns.items()
        },
    }


# -- certified ----------------------------------------------------------------------------------


def certified(
    lm: FrozenLM, side: Side, texts: Sequence[Tensor], vectors: int, steps: int
) -> dict[str, Any]:
    """Cram whole texts, decode them, and count the token-steps of those that are exact."""
    recipe = memcram.get_recipe("default").with_steps(steps)
    requests = [memcram.CramRequest(i, ids, vectors, i) for i, ids in enumerate(texts)]
    with side.switched():
        began = time.perf_counter()
        engine = Engine(lm, recipe, compute_dtype=side.compute_dtype, compile_trunk=side.compiled)
        crammed = {one.key: one for one in engine.run(requests)}
        exact = _exact(lm, crammed, texts)
        seconds = time.perf_counter() - began
    whole = [i for i, n in enumerate(exact) if n == len(texts[i])]
    token_steps = sum(crammed[i].token_steps for i in whole)
    total = sum(one.token_steps for one in crammed.values())
    return {
        "exact_texts": len(whole),
        "token_steps_per_second": total / seconds,
        "seconds": seconds,
        "token_steps": token_steps,
        "certified_token_steps_per_second": token_steps / seconds,
    }


def _exact(lm: FrozenLM, crammed: dict[Any, Crammed], texts: Sequence[Tensor]) -> list[int]:
    mems = [crammed[i].mem for i in range(len(texts))]
    decoded = decoding.greedy(lm, mems, [len(ids) for ids in texts])
    return [exact_prefix(one.ids, ids) for one, ids in zip(decoded, texts, strict=True)]


def certified_part(lm: FrozenLM, texts: int, steps: int) -> dict[str, Any]:
    """Texts of 64 tokens in 4 vectors, from the first step to the last decoded token.

    The compiled side runs twice: with the time to compile, and with the layers compiled before.
    """
    rows = token_rows(lm, texts, TOKENS)
    compiled = Side("bfloat16", compiled=True)
    sides = SIDES | {"bfloat16, compiling": compiled, "bfloat16, compiled": compiled}
    found = {name: certified(lm, side, rows, 4, steps) for name, side in sides.items()}
    rate = "certified_token_steps_per_second"
    return {
        "texts": texts,
        "sides": found,
        "speedup": {name: one[rate] / found["former float32"][rate] for name, one in found.items()},
    }


# -- finishing ----------------------------------------------------------------------------------


def horizons(lm: FrozenLM, side: Side, texts: Sequence[Tensor], token_steps: int) -> dict[str, Any]:
    """Exact horizons of one vector at equal token-steps, and what finishing took."""
    recipe = memcram.get_recipe("default").with_token_steps(token_steps).for_horizon()
    requests = [memcram.CramRequest(i, ids, 1, i) for i, ids in enumerate(texts)]
    finishes: list[dict[str, int]] = []
    with side.switched():
        engine = Engine(lm, recipe, compute_dtype=side.compute_dtype)
        finisher = engine._finisher
        if finisher is not None:
            finisher.run = _noting(finisher.run, finishes)  # type: ignore[method-assign]
        began = time.perf_counter()
        crammed = {one.key: one for one in engine.run(requests)}
        seconds = time.perf_counter() - began
    return {
        "horizons": _exact(lm, crammed, texts),
        "token_steps": sum(one.token_steps for one in crammed.values()),
        "seconds": seconds,
        "finishes": finishes,
    }


def _noting(run: Callable[..., Iterator[Crammed]], notes: list[dict[str, int]]) -> Any:
    """The engine's `run`, which also notes steps, tokens asked for and tokens held."""

    def noting(requests: Sequence[memcram.CramRequest]) -> Iterator[Crammed]:
        asked = {one.key: len(one.ids) for one in requests}
        for one in run(requests):
            notes.append({"asked": asked[one.key], "held": one.n_correct, "steps": one.steps})
            yield one

    return noting


def finishing_part(lm: FrozenLM, texts: int, token_steps: int) -> dict[str, Any]:
    """Horizons in bfloat16 and in float32, paired by text."""
    rows = token_rows(lm, texts, min(160, lm.room(1) or 160))
    low = horizons(lm, SIDES["bfloat16"], rows, token_steps)
    high = horizons(lm, SIDES["float32"], rows, token_steps)
    means = [statistics.mean(side["horizons"]) for side in (low, high)]
    differences = [a - b for a, b in zip(low["horizons"], high["horizons"], strict=True)]
    steps = [one["steps"] for one in low["finishes"]]
    return {
        "texts": texts,
        "token_steps_per_text": token_steps,
        "mean_bfloat16": means[0],
        "mean_float32": means[1],
        "ratio": means[0] / means[1],
        "mean_difference": statistics.mean(differences),
        "standard_error": statistics.stdev(differences) / texts**0.5,
        "finishing_steps": {"mean": statistics.mean(steps), "max": max(steps)},
        "texts_that_lost_tokens": sum(one["held"] < one["asked"] for one in low["finishes"]),
        "bfloat16": low,
        "float32": high,
    }


def horizon_part(lm: FrozenLM, texts: int, token_steps: int) -> dict[str, Any]:
    """Seconds to the horizons of the same texts at equal token-steps."""
    rows = token_rows(lm, texts, min(160, lm.room(1) or 160))
    sides = {name: horizons(lm, side, rows, token_steps) for name, side in SIDES.items()}
    former = sides["former float32"]["seconds"]
    return {
        "texts": texts,
        "token_steps_per_text": token_steps,
        "sides": sides,
        "speedup": {name: former / one["seconds"] for name, one in sides.items()},
    }


# -- decoding -----------------------------------------------------------------------------------

ONE_BY_ONE = 8  # chunks that are timed one at a time


def decoding_part(lm: FrozenLM, texts: int) -> dict[str, Any]:
    """CPU seconds to decode chunks of 64 tokens, or of 32 to 96, from random vectors of K = 1.

    Meant for one thread, where other work on the machine then counts for little. What is decoded
    does not matter here. One at a time, the first chunks are timed and their rate
    is taken for all; `first_text` is when the first chunk is finished.
    """
    generator = torch.Generator().manual_seed(0)
    mems = torch.randn(texts, 1, lm.input_width, generator=generator) * lm.embedding_std
    lengths = {
        "equal": [TOKENS] * texts,
        "varied": torch.randint(
            TOKENS // 2, 3 * TOKENS // 2 + 1, (texts,), generator=generator
        ).tolist(),
    }
    found: dict[str, Any] = {"chunks": texts, "takes_padding": lm.takes_padding}
    for name, tokens in lengths.items():
        alone = _decoded(lm, mems[:ONE_BY_ONE], tokens[:ONE_BY_ONE], batch_tokens=1)
        sides = {"side by side": _decoded(lm, mems, tokens)}
        lm.__dict__["takes_padding"] = False
        sides["in groups"] = _decoded(lm, mems, tokens)
        del lm.__dict__["takes_padding"]
        rate = alone["seconds"] / sum(tokens[:ONE_BY_ONE])
        sides["one at a time"] = {"seconds": rate * sum(tokens), "first_text": rate * tokens[0]}
        for one in sides.values():
            one["speedup"] = sides["one at a time"]["seconds"] / one["seconds"]
            one["first_text_fraction"] = one["first_text"] / one["seconds"]
        found[name] = sides
    return found


def _decoded(
    lm: FrozenLM, mems: Tensor, tokens: Sequence[int], batch_tokens: int | None = None
) -> dict[str, float]:
    began = time.process_time()
    first = 0.0
    for i, _ in decoding.stream(lm, list(mems), tokens, batch_tokens=batch_tokens):
        first = time.process_time() - began if i == 0 else first
    return {"seconds": time.process_time() - began, "first_text": first}


# -- memory -------------------------------------------------------------------------------------


def memory_part(model: str, texts: int) -> dict[str, Any]:
    """Peak memory above the model of a step, and of scoring alone, each in a fresh process."""
    found: dict[str, Any] = {}
    for what in ("head", "step"):
        for name in ("former float32", "float32"):
            arguments = [model, "--texts", str(texts), "--peak-of", f"{what}:{name}"]
            made = subprocess.run(
                [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
            )
            found[f"{what}, {name}"] = json.loads(made.stdout)
        ratio = found[f"{what}, float32"]["bytes"] / found[f"{what}, former float32"]["bytes"]
        found[f"{what}, ratio"] = ratio
    return found


def peak_of(lm: FrozenLM, what: str, side: Side, texts: int) -> dict[str, int]:
    """Bytes above those in use before, at the peak of one step, or of scoring its hidden states."""
    rows = token_rows(lm, texts, TOKENS)
    hidden = torch.randn(texts * TOKENS, lm.module.get_output_embeddings().weight.shape[1])
    engine = Engine(lm, memcram.get_recipe("default"), compute_dtype="float32")
    targets = torch.cat(rows)
    # What loading freed would be used again without showing in the peak.
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident()
    Path("/proc/self/clear_refs").write_text("5")
    with side.switched():
        if what == "step":
            step_seconds(lm, side, rows, vectors=1)
        else:
            counted: Any = SimpleNamespace(targets=targets, weights=torch.ones(len(targets)))
            engine._score(counted, hidden)
    return {"bytes": _status("VmHWM") - before, "vocabulary": lm.vocab_size}


def _resident() -> int:
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


# -- command ------------------------------------------------------------------------------------

PARTS = ("steps", "certified", "horizon", "finishing", "memory", "decoding")


@click.command()
@click.argument("model")
@click.option("--part", type=click.Choice(PARTS), default="steps", show_default=True)
@click.option("--texts", default=8, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Turns of `steps`.")
@click.option("--steps", default=300, show_default=True, help="Budget of `certified`.")
@click.option(
    "--token-steps", default=8000, show_default=True, help="Budget of `horizon` and `finishing`."
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Add the result to this JSON."
)
@click.option("--peak-of", "peak", hidden=True, help="Memory of one side, in this process.")
def main(
    model: str,
    part: str,
    texts: int,
    repeats: int,
    steps: int,
    token_steps: int,
    output: str | None,
    peak: str | None,
) -> None:
    """Compare the ways of optimising texts with MODEL."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    if part == "memory" and peak is None:
        found = memory_part(model, texts)
    else:
        lm = memcram.load_lm(model, device="cpu")
        if peak is not None:
            what, _, name = peak.partition(":")
            click.echo(json.dumps(peak_of(lm, what, SIDES[name], texts)))
            return
        parts = {
            "steps": lambda: steps_part(lm, texts, repeats),
            "certified": lambda: certified_part(lm, texts, steps),
            "decoding": lambda: decoding_part(lm, texts),
            "horizon": lambda: horizon_part(lm, texts, token_steps),
            "finishing": lambda: finishing_part(lm, texts, token_steps),
        }
        found = parts[part]()
    found |= {
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "architecture": platform.machine(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    name = f"{part}, {Path(model).name}"
    if output:
        stored = Path(output)
        report = json.loads(stored.read_text("utf-8")) if stored.exists() else {}
        report[name] = found
        stored.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps({name: found}, indent=1))


if __name__ == "__main__":
    main()
