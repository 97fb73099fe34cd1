"""Measure what batching and bounded memory gain, as ratios within one run, on the packaged model.

    python benchmarks/speed.py -o benchmarks/results/speed.json

Times drift with the machine's other work, so only ratios are compared with targets: the two sides
take turns (A B A B …), each turn gives one ratio, and the median of the ratios counts. Memory is
measured in a fresh process per text.
"""

import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import click
import torch
from torch import Tensor

import memcram
from memcram.engine.loop import Engine
from memcram.models import FrozenLM, decoding
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Continue, Decision, Measurement, Outcome, Stop
from memcram.recipes.strategies.fixed import Fixed

MODEL = "pocket"
TEXTS = 32
TOKENS = 32
ARCHIVE_CHUNKS = 40
ARCHIVE_TOKENS = 16
SMALL_BYTES = 20_000
LARGE_BYTES = 200_000
CHUNK_TOKENS = 32
OUT_OF_REACH = 1e9


@dataclass(frozen=True)
class Side:
    """One way of doing the work.

    Attributes:
        name: in the table.
        run: does the work once.
        amount: of work in `unit`, done by one run.
    """

    name: str
    run: Callable[[], object]
    amount: float


@dataclass(frozen=True)
class Result:
    """One ratio against its target.

    Attributes:
        name: what is compared.
        quantity: what the two sides are measured in.
        sides: median of each side, by name.
        ratios: one per turn.
        median, low, high: of the ratios.
        target: the median must reach it; None: no target.
        at_most: the target is an upper limit.
        met: whether it is reached.
    """

    name: str
    quantity: str
    sides: dict[str, float]
    ratios: list[float]
    median: float
    low: float
    high: float
    target: float | None
    at_most: bool
    met: bool | None


@dataclass(frozen=True)
class Peak:
    """Memory of one compression, in bytes.

    Attributes:
        text_bytes, chunks: of the text.
        loaded: resident with the model loaded and everything used once.
        peak: maximum resident at any time.
        stored: the vectors of the archive.
    """

    text_bytes: int
    chunks: int
    loaded: int
    peak: int
    stored: int

    @property
    def above(self) -> int:
        """Working memory: above the loaded model, without the stored vectors."""
        return self.peak - self.loaded - self.stored


@dataclass(frozen=True)
class FewerStepsIfShort(Fixed):
    """Texts of fewer than `TOKENS` tokens are done after one step."""

    def decide(self, measured: Measurement) -> Decision:
        """Stop a short text at once, any other when the budget is spent."""
        short = measured.text_tokens < TOKENS
        if measured.step >= (1 if short else self.steps):
            return Stop(Outcome.BUDGET_EXHAUSTED)
        return Continue()


# -- what is timed ------------------------------------------------------------------------------


def words(size: int, seed: int) -> str:
    """Make a text of at least `size` characters from reshuffled words of the packaged passage."""
    passage = files("memcram").joinpath("data/demo.txt").read_text("utf-8").split()
    shuffle = random.Random(seed)
    text = ""
    while len(text) < size:
        text += " ".join(shuffle.sample(passage, len(passage))) + "\n"
    return text


def token_rows(lm: FrozenLM, rows: int, tokens: int, seed: int = 0) -> list[Tensor]:
    """`rows` texts of `tokens` tokens."""
    ids = torch.tensor(lm.tokenize(words(8 * rows * tokens, seed)))
    return list(ids[: rows * tokens].split(tokens))


def cram_all(lm: FrozenLM, recipe: Recipe, texts: list[Tensor], slots: int | None) -> None:
    """Run all texts through the engine, with one slot or as many as its batch holds."""
    requests = [memcram.CramRequest(i, ids, seed=i) for i, ids in enumerate(texts)]
    for crammed in Engine(lm, recipe, batch_tokens=slots).run(requests):
        assert crammed.steps >= 1, crammed


def straight_line(lm: FrozenLM, recipe: Recipe, texts: list[Tensor], steps: int) -> None:
    """Cram one text after another in a plain loop with the same loss and optimiser."""
    recipe_adam = recipe.optimiser
    for seed, ids in enumerate(texts):
        generator = torch.Generator().manual_seed(seed)
        start = recipe.start.draw((1, lm.input_width), lm.embedding_std, generator).float()
        mem = start.requires_grad_()
        optimiser = torch.optim.AdamW(
            [mem], recipe_adam.lr, recipe_adam.betas, recipe_adam.eps, recipe_adam.weight_decay
        )
        embeds = lm.embed(ids[:-1])
        for _ in range(steps):
            inputs = torch.cat([mem.to(lm.dtype), embeds])[None]
            logits = lm.module(inputs_embeds=inputs, use_cache=False).logits[0]
            optimiser.zero_grad()
            recipe.objective(logits, ids).loss.mean().backward()
            optimiser.step()


def decode_archive(lm: FrozenLM, mems: list[Tensor], *, together: bool) -> None:
    """Decode all chunks, at once or one by one."""
    lengths = [ARCHIVE_TOKENS] * len(mems)
    if together:
        decoding.greedy(lm, mems, lengths)
    else:
        for mem in mems:
            decoding.greedy(lm, [mem], [ARCHIVE_TOKENS])


# -- measuring ----------------------------------------------------------------------------------


def take_turns(sides: list[Side], repeats: int) -> dict[str, list[float]]:
    """Rates (amount per second) of each side; sides take turns after a warm-up round."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(repeats + 1):
        for side in sides:
            started = time.perf_counter()
            side.run()
            seconds = time.perf_counter() - started
            if turn:
                rates[side.name].append(side.amount / seconds)
    return rates


def compare(
    name: str,
    quantity: str,
    measured: dict[str, list[float]],
    over: tuple[str, str],
    target: float | None = None,
    *,
    at_most: bool = False,
) -> Result:
    """The ratio of two sides, turn by turn."""
    ratios = [a / b for a, b in zip(measured[over[0]], measured[over[1]], strict=True)]
    median = statistics.median(ratios)
    reached = None if target is None else (median <= target if at_most else median >= target)
    medians = {side: round(statistics.median(values), 1) for side, values in measured.items()}
    return Result(
        name=name,
        quantity=quantity,
        sides={side: medians[side] for side in over},
        ratios=[round(ratio, 3) for ratio in ratios],
        median=round(median, 3),
        low=round(min(ratios), 3),
        high=round(max(ratios), 3),
        target=target,
        at_most=at_most,
        met=reached,
    )


def engine_results(dtype: str, target: float, steps: int, repeats: int) -> list[Result]:
    """Compare many slots with one, one slot with a plain loop, and measure finished texts."""
    lm = memcram.load_lm(MODEL, dtype=dtype, device="cpu")
    recipe = memcram.get_recipe("direct")
    recipe = replace(recipe, strategy=Fixed(steps=steps, margin=OUT_OF_REACH))
    texts = token_rows(lm, TEXTS, TOKENS)
    work = TEXTS * steps
    rates = take_turns(
        [
            Side("many slots", lambda: cram_all(lm, recipe, texts, None), work),
            Side("one slot", lambda: cram_all(lm, recipe, texts, 1), work),
            Side("straight line", lambda: straight_line(lm, recipe, texts, steps), work),
        ],
        repeats,
    )
    unit = "text-steps/s"
    one = ("one slot", "straight line")
    return [
        compare(f"engine {dtype}", unit, rates, ("many slots", "one slot"), target),
        compare(f"one slot {dtype}", unit, rates, one),
        compare(f"engine {dtype}, plain", unit, rates, ("many slots", "straight line")),
    ]


def done_result(steps: int, repeats: int) -> Result:
    """Compare texts of which half are done after one step with half as many texts.

    The rate counts the steps of the texts that stay. Those that leave take part in two turns, so
    that 1 − 2 / (steps + 3) is what to expect.
    """
    lm = memcram.load_lm(MODEL, device="cpu")
    early = FewerStepsIfShort(steps=steps, margin=OUT_OF_REACH)
    recipe = replace(memcram.get_recipe("direct"), strategy=early)
    texts = token_rows(lm, TEXTS, TOKENS)
    half = TEXTS // 2
    mixed = texts[:half] + [ids[:-1] for ids in texts[half:]]
    rates = take_turns(
        [
            Side("half are done", lambda: cram_all(lm, recipe, mixed, None), half * steps),
            Side("half as many", lambda: cram_all(lm, recipe, texts[:half], None), half * steps),
        ],
        repeats,
    )
    return compare(
        "done texts cost nothing", "text-steps/s", rates, ("half are done", "half as many")
    )


def decoding_result(repeats: int) -> Result:
    """Compare decoding all chunks of an archive at once with decoding them one by one."""
    lm = memcram.load_lm(MODEL, device="cpu")
    generator = torch.Generator().manual_seed(0)
    mems = [torch.randn(1, lm.input_width, generator=generator) for _ in range(ARCHIVE_CHUNKS)]
    work = ARCHIVE_CHUNKS * ARCHIVE_TOKENS
    rates = take_turns(
        [
            Side("together", lambda: decode_archive(lm, mems, together=True), work),
            Side("one by one", lambda: decode_archive(lm, mems, together=False), work),
        ],
        repeats,
    )
    return compare("decoding", "tokens/s", rates, ("together", "one by one"), 5.0)


def memory_result(repeats: int) -> Result:
    """Compare the peak memory of a long text with that of a text a tenth as long."""
    measured: dict[str, list[float]] = {"200 kB": [], "20 kB": []}
    for _ in range(repeats):
        for name, size in (("200 kB", LARGE_BYTES), ("20 kB", SMALL_BYTES)):
            measured[name].append(peak_in_fresh_process(size).above / 2**20)
    return compare("memory", "MiB", measured, ("200 kB", "20 kB"), 1.5, at_most=True)


def peak_in_fresh_process(size: int) -> Peak:
    """Run `measure_peak` in a fresh process."""
    threads = str(torch.get_num_threads())
    command = [sys.executable, __file__, "--peak-of", str(size), "--threads", threads]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = Peak(**json.loads(done.stdout))
    click.echo(f"  {peak} above={peak.above / 2**20:.1f} MiB", err=True)
    return peak


def measure_peak(size: int) -> Peak:
    """Compress a text of `size` bytes, one step per chunk."""
    lm = memcram.load_lm(MODEL, device="cpu")
    memcram.compress(words(200, 1)[:200], lm, steps=1, chunk_tokens=CHUNK_TOKENS)
    text = words(size, 0)[:size]
    gc.collect()
    loaded = _resident()
    _forget_peak()
    archive = memcram.compress(text, lm, steps=1, chunk_tokens=CHUNK_TOKENS)
    vectors = archive.tensors.vectors
    stored = vectors.numel() * vectors.element_size()
    return Peak(len(text.encode()), len(archive.chunk_tokens), loaded, _peak(), stored)


def _resident() -> int:
    """Bytes resident at present."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _forget_peak() -> None:
    """Reset the recorded peak, so that loading the model does not hide what follows."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def _peak() -> int:
    """Maximum of bytes resident since the peak was reset."""
    status = Path("/proc/self/status").read_text("ascii").splitlines()
    high = next(line for line in status if line.startswith("VmHWM"))
    return int(high.split()[1]) * 1024


def conditions() -> dict[str, object]:
    """Versions, device and threads that the numbers depend on."""
    return {
        "model": MODEL,
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "architecture": platform.machine(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


# -- command ------------------------------------------------------------------------------------

PARTS = ("engine", "decoding", "memory")


def _table(results: list[Result]) -> str:
    lines = [f"{'':<24} {'ratio':>6} {'min–max':>12} {'n':>3} {'target':>7}      sides"]
    for row in results:
        sides = ", ".join(f"{name} {value:,.1f}" for name, value in row.sides.items())
        sign = "≤" if row.at_most else "≥"
        target = "" if row.target is None else f"{sign} {row.target:.1f}"
        mark = {None: "", True: "met", False: "NOT"}[row.met]
        span = f"{row.low:.2f}–{row.high:.2f}"
        lines.append(
            f"{row.name:<24} {row.median:>6.2f} {span:>12} {len(row.ratios):>3} {target:>7} "
            f"{mark:<4} {sides} {row.quantity}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--repeats", default=7, show_default=True, help="Turns of each comparison.")
@click.option("--quick", is_flag=True, help="Few steps and 2 turns, to see that it runs.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Leave out the others.")
@click.option("--threads", default=2, show_default=True, help="Of torch.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write JSON there too.")
@click.option("--peak-of", type=int, hidden=True, help="Memory of one text, in this process.")
def main(
    repeats: int,
    quick: bool,
    only: tuple[str, ...],
    threads: int,
    as_json: bool,
    output: str | None,
    peak_of: int | None,
) -> None:
    """Measure the engine, the decoder and the memory of the packaged model."""
    torch.set_num_threads(threads)
    if peak_of is not None:
        click.echo(json.dumps(asdict(measure_peak(peak_of))))
        return
    repeats, steps = (2, 3) if quick else (repeats, 10)
    parts = {
        "engine": lambda: [
            *engine_results("float32", 2.5, steps, repeats),
            *engine_results("bfloat16", 4.0, steps, repeats),
            done_result(4 * steps, min(repeats, 5)),
        ],
        "decoding": lambda: [decoding_result(repeats)],
        "memory": lambda: [memory_result(1 if quick else min(repeats, 3))],
    }
    stored = Path(output) if output else None
    # Parts that are left out keep the results of an earlier run.
    report = json.loads(stored.read_text("utf-8")) if only and stored and stored.exists() else {}
    results: list[Result] = []
    for part in only or PARTS:
        found = parts[part]()
        results += found
        report[part] = {**conditions(), "results": [asdict(result) for result in found]}
    if stored:
        stored.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(report, indent=1) if as_json else _table(results))


if __name__ == "__main__":
    main()
