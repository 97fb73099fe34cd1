"""Measure nats per token and bits per byte of a model folder on unseen books.

    python -m training.pocket.evaluate MODEL --texts BOOKS [--json FILE]

The sample is fixed, so that two models with the same tokenizer read the same windows: evenly spaced
windows of each book, each after BOS, every token of a window predicted, float32.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy

from training.pocket import data
from training.pocket import model as models


@dataclass(frozen=True)
class Sample:
    """Which windows are read: `windows` per book, evenly spaced, of `length` tokens."""

    windows: int = 20
    length: int = 512


@dataclass(frozen=True)
class Quality:
    """Loss over a sample; `standard_error` is that of nats_per_token over the books' means."""

    model: str
    nats_per_token: float
    bits_per_byte: float
    standard_error: float
    tokens: int
    bytes: int
    books: dict[str, float]
    sample: Sample


def windows_of(book: np.ndarray, sample: Sample) -> np.ndarray:
    """Evenly spaced windows (windows, length) of one book's tokens; fewer if it is short."""
    count = max(1, min(sample.windows, len(book) // sample.length))
    starts = np.linspace(0, max(0, len(book) - sample.length), count).astype(int)
    return np.stack([book[start : start + sample.length] for start in starts])


@torch.no_grad()
def evaluate(folder: Path, texts: Path, sample: Sample = Sample(), device: str = "cpu") -> Quality:
    """Measure the model in `folder` on every .txt file of `texts`.

    bits per byte = nats / ln 2 / bytes of the predicted tokens. The byte-level tokenizer writes
    each byte as one character, so a token's bytes are the characters of its entry.
    """
    net = models.read(folder).to(device).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sizes = [len(tokenizer.id_to_token(i) or "") for i in range(tokenizer.get_vocab_size())]
    books: dict[str, float] = {}
    nats, tokens, size = 0.0, 0, 0
    for path in sorted(texts.glob("*.txt")):
        ids = data.encode(tokenizer, data.clean(path.read_text(encoding="utf-8")))
        own_nats, own_tokens = 0.0, 0
        for window in windows_of(ids, sample).astype(np.int64):
            row = torch.tensor([[data.BOS_ID, *window.tolist()]], device=device)
            logits = net(input_ids=row[:, :-1], use_cache=False).logits[0]  # (T, V)
            own_nats += cross_entropy(logits, row[0, 1:], reduction="sum").item()
            own_tokens += len(window)
            size += sum(sizes[i] for i in window.tolist())
        books[path.stem] = own_nats / own_tokens
        nats, tokens = nats + own_nats, tokens + own_tokens
    spread = statistics.stdev(books.values()) if len(books) > 1 else math.nan
    return Quality(
        model=folder.resolve().name,
        nats_per_token=nats / tokens,
        bits_per_byte=nats / math.log(2) / size,
        standard_error=spread / math.sqrt(len(books)),
        tokens=tokens,
        bytes=size,
        books=books,
        sample=sample,
    )


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--texts", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--windows", type=int, default=20, show_default=True, help="Windows per book.")
@click.option("--length", type=int, default=512, show_default=True, help="Tokens per window.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), default=None)
def main(
    model: Path, texts: Path, windows: int, length: int, device: str, out: Path | None
) -> None:
    """Print nats per token and bits per byte of the folder MODEL on the books in --texts."""
    quality = evaluate(model, texts, Sample(windows, length), device)
    print(
        f"{quality.model}: {quality.nats_per_token:.4f} ± {quality.standard_error:.4f} nats/token, "
        f"{quality.bits_per_byte:.4f} bits/byte ({quality.tokens} tokens, {quality.bytes} bytes)"
    )
    if out is not None:
        out.write_text(json.dumps(asdict(quality), indent=2) + "\n")


if __name__ == "__main__":
    main()
