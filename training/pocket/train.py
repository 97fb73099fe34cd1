"""Train a small language model on a folder of books, from scratch or grown from a trained one.

    python -m training.pocket.train --texts BOOKS --out RUN --width 256 --layers 6 --tokens 30000000

A killed run continues with `--resume` at the same token and, with `--tokens`, ends with the same
weights, bit for bit, as an uninterrupted run on the same machine.
"""

from __future__ import annotations

import csv
import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import torch
from tokenizers import Tokenizer

from training.pocket import data, scan
from training.pocket import model as models
from training.pocket.learner import Batching, Learner, Optimising, Position

PAUSE = 30.0  # seconds; a step that took longer was suspended and counts as a usual step


@dataclass(frozen=True)
class Budget:
    """When a run ends: after `tokens` predicted tokens, or after `minutes` of running.

    Time spent suspended (SIGSTOP, a closed laptop) is not running.
    """

    tokens: int | None = None
    minutes: float | None = None

    def progress(self, at: Position) -> float:
        """Fraction of the budget that is spent, in [0, 1]."""
        if self.tokens is not None:
            return min(1.0, at.tokens / self.tokens)
        assert self.minutes is not None
        return min(1.0, at.minutes / self.minutes)


@dataclass
class Curve:
    """Rows of the validation curve, kept as a CSV file next to the checkpoint."""

    file: Path
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, **row: float) -> None:
        """Append a row and rewrite the file atomically."""
        self.rows.append(row)
        partial = self.file.with_suffix(".partial")
        with partial.open("w", newline="") as out:
            writer = csv.DictWriter(out, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.file)

    def restore(self, tokens: int) -> None:
        """Read the rows that an earlier run wrote up to its checkpoint at `tokens`."""
        if self.file.exists():
            with self.file.open(newline="") as lines:
                rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(lines)]
            self.rows = [row for row in rows if row["tokens"] <= tokens]


@dataclass(frozen=True)
class Schedule:
    """When a run is validated, saved and stopped, in tokens and minutes.

    After each of `snapshots` tokens the model is saved to points/TOKENS.
    """

    budget: Budget
    validate_tokens: int = 500_000
    checkpoint_minutes: float = 4.0
    validation_windows: int = 48
    snapshots: tuple[int, ...] = ()


def train(
    learner: Learner,
    corpus: data.Corpus,
    schedule: Schedule,
    out: Path,
    *,
    tokenizer: Path,
    seed: int = 0,
    resume: bool = False,
    stop_after: int | None = None,
) -> Position:
    """Train until the budget is spent (or `stop_after` steps were done here), and checkpoint.

    `out` receives checkpoint/, points/ (models with the tokenizer in the folder `tokenizer`) and
    curve.csv (nats per token on held-out books, in bf16 autocast).
    """
    out.mkdir(parents=True, exist_ok=True)
    batching = learner.batching
    windows = data.Windows(corpus.train, seed)
    held_out = data.Windows(corpus.held_out, 0).batch(
        0, schedule.validation_windows, batching.lengths[0]
    )
    checkpoint = out / "checkpoint"
    curve = Curve(out / "curve.csv")
    at = learner.restore(checkpoint) if resume else Position()
    if resume:
        curve.restore(at.tokens)
    usual, saved, done_here = 1.0, at.minutes, 0
    losses: list[float] = []

    def measure() -> None:
        nats = learner.validate(held_out)
        mean = sum(losses) / len(losses) if losses else float("nan")
        losses.clear()
        curve.add(
            tokens=at.tokens, steps=at.steps, minutes=round(at.minutes, 3),
            lr_factor=round(learner.rates.factor(schedule.budget.progress(at)), 4),
            train_nats=round(mean, 5), held_out_nats=round(nats, 5),
        )  # fmt: skip
        print(
            f"{at.tokens / 1e6:8.3f}M tokens  step {at.steps:6d}  {at.minutes:7.2f} min  "
            f"train {mean:.4f}  held out {nats:.4f} nats/token",
            flush=True,
        )

    def snapshot(since: int) -> None:
        for point in schedule.snapshots:
            if since < point <= at.tokens:
                models.save(learner.model, tokenizer, out / "points" / str(point))

    if not resume:
        measure()
        snapshot(-1)
    while (progress := schedule.budget.progress(at)) < 1.0 and done_here != stop_after:
        began = time.monotonic()
        length = batching.lengths[at.steps % len(batching.lengths)]
        rows = max(1, batching.step_tokens // length)
        ids = windows.batch(at.tokens, rows, length)
        losses.append(learner.step(ids, learner.rates.factor(progress)))
        seconds = time.monotonic() - began
        usual = seconds if seconds < PAUSE else usual
        before = at.tokens
        at = Position(at.steps + 1, at.tokens + rows * length, at.minutes + usual / 60)
        done_here += 1
        snapshot(before)
        if before // schedule.validate_tokens != at.tokens // schedule.validate_tokens:
            measure()
        if at.minutes - saved > schedule.checkpoint_minutes:
            learner.save(checkpoint, at)
            saved = at.minutes
    learner.save(checkpoint, at)
    if schedule.budget.progress(at) >= 1.0 and losses:
        measure()
    return at


@click.command(context_settings={"show_default": True})
@click.option("--texts", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--arch", type=click.Choice(["llama", "neox", "mamba"]), default="llama")
@click.option("--width", type=int, default=256)
@click.option("--layers", type=int, default=6)
@click.option("--feed-forward", type=int, default=0, help="0: the architecture's usual multiple.")
@click.option("--state", type=int, default=16, help="State size per channel (Mamba).")
@click.option("--tokenizer", default="new", help="A model folder, or `new` to train one.")
@click.option("--vocabulary", type=int, default=4096, help="Entries of a new tokenizer.")
@click.option("--grow-from", type=click.Path(exists=True, path_type=Path), default=None)
@click.option("--tokens", type=int, default=None, help="Budget in predicted tokens.")
@click.option("--minutes", type=float, default=None, help="Budget in minutes of running.")
@click.option("--length", "lengths", type=int, multiple=True, default=(512,), help="Repeatable.")
@click.option("--step-tokens", type=int, default=12_288)
@click.option("--micro-tokens", type=int, default=1024, help="On a GPU, use --step-tokens.")
@click.option("--workers", type=int, default=2, help="CPU cores to use; 1 on a GPU.")
@click.option("--muon-lr", type=float, default=0.02)
@click.option("--adamw-lr", type=float, default=0.003)
@click.option("--decay", type=float, default=0.4, help="Fraction of the run with linear decay.")
@click.option("--held-out", type=int, default=6, help="Books kept for the validation curve.")
@click.option("--validate-tokens", type=int, default=500_000)
@click.option("--snapshot", "snapshots", type=int, multiple=True, help="Tokens; repeatable.")
@click.option("--seed", type=int, default=0)
@click.option("--device", default="cpu")
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in --out.")
def main(
    texts: Path, out: Path, arch: models.Arch, width: int, layers: int, feed_forward: int,
    state: int, tokenizer: str, vocabulary: int, grow_from: Path | None, tokens: int | None,
    minutes: float | None, lengths: tuple[int, ...], step_tokens: int, micro_tokens: int,
    workers: int, muon_lr: float, adamw_lr: float, decay: float, held_out: int,
    validate_tokens: int, snapshots: tuple[int, ...], seed: int, device: str, resume: bool,
) -> None:  # fmt: skip
    """Train a small causal language model on the .txt files in --texts."""
    if (tokens is None) == (minutes is None):
        raise click.UsageError("give one of --tokens and --minutes")
    if device == "cpu":
        torch.set_num_threads(1)  # a worker is one core
    split = data.split_books(texts, held_out, seed=0)
    folder = Path(tokenizer)
    if tokenizer == "new":
        folder = out / "tokenizer"
        if not (folder / "tokenizer.json").exists():
            print("training the tokenizer", flush=True)
            data.save_tokenizer(
                data.train_tokenizer(data.read_books(split.train), vocabulary), folder
            )
    bpe = Tokenizer.from_file(str(folder / "tokenizer.json"))
    corpus = data.prepare(bpe, split, out.parent / "tokens")
    shape = models.Shape(arch, width, layers, bpe.get_vocab_size(), feed_forward, state=state)
    if grow_from is None:
        net = models.build(shape.config(), seed)
    else:
        net = models.grow(models.read(grow_from), shape, seed)
    optimising = Optimising(muon_lr=muon_lr, adamw_lr=adamw_lr, decay=decay)
    batching = Batching(step_tokens, micro_tokens, lengths, workers)
    learner = Learner(net, optimising, batching, device)
    schedule = Schedule(Budget(tokens, minutes), validate_tokens, snapshots=snapshots)
    facts = {
        "shape": asdict(shape),
        "parameters": sum(p.numel() for p in net.parameters()),
        "grown_from": grow_from.name if grow_from else None,
        "optimising": asdict(optimising),
        "batching": asdict(batching),
        "budget": asdict(schedule.budget),
        "seed": seed,
        "train_books": corpus.train_books,
        "train_tokens": len(corpus.train),
        "held_out_books": [book.stem for book in split.held_out],
    }
    print(json.dumps(facts), flush=True)
    with scan.used() if device == "cpu" else nullcontext():  # a GPU may have compiled kernels
        at = train(learner, corpus, schedule, out, tokenizer=folder, seed=seed, resume=resume)
    models.save(net.cpu(), folder, out / "model")
    (out / "run.json").write_text(json.dumps({**facts, "position": asdict(at)}, indent=2) + "\n")
    print(f"wrote {out / 'model'}")


if __name__ == "__main__":
    main()
