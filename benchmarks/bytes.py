"""Compare the bytes of a text under usual compressors, a range coder with the LM, and `[mem]`.

    pip install 'memcram[bytes]'
    python benchmarks/bytes.py MODEL --text BOOK.txt --text BOOK.txt -o bytes.json

Every coder's round trip is checked for every text.
"""

import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import constriction
import numpy as np
import torch
import zstandard

import memcram
from memcram.metrics.statistics import spread
from memcram.models import FrozenLM

STREAM = constriction.stream
# Bytes for the number of tokens, which decoding needs.
_LENGTH_BYTES = 2


def distributions(lm: FrozenLM) -> Iterator[Any]:
    """Generator of next-token distributions; send it each token.

    Encoder and decoder call the model in the same way, one token at a time with the cache, so that
    both get the same bits. Nothing precedes the first token, so its distribution is uniform.
    """
    token = yield np.full(lm.vocab_size, 1 / lm.vocab_size)
    cache = None
    with torch.no_grad():
        while True:
            embeds = lm.embed(torch.tensor([token]))[None]
            logits, cache = lm.advance(embeds, cache)
            token = yield logits[0].double().softmax(-1).cpu().numpy().astype(np.float64)


def encode(lm: FrozenLM, ids: list[int]) -> Any:
    """Encode tokens with a range coder; return 32-bit words."""
    coder, source = STREAM.queue.RangeEncoder(), distributions(lm)
    given = next(source)
    for token in ids:
        coder.encode(token, STREAM.model.Categorical(given, perfect=False))
        given = source.send(token)
    return coder.get_compressed()


def decode(lm: FrozenLM, words: Any, n_tokens: int) -> list[int]:
    """Decode tokens from 32-bit words."""
    coder, source = STREAM.queue.RangeDecoder(words), distributions(lm)
    given, ids = next(source), []
    for _ in range(n_tokens):
        ids.append(int(coder.decode(STREAM.model.Categorical(given, perfect=False))))
        given = source.send(ids[-1])
    return ids


def lm_bytes(lm: FrozenLM, data: bytes) -> int:
    """Bytes of a text under the range coder; the round trip is checked."""
    ids = lm.tokenize(data.decode())
    words = encode(lm, ids)
    if lm.detokenize(decode(lm, words, len(ids))).encode() != data:
        raise click.ClickException("the range coder does not restore the text")
    return 4 * len(words) + _LENGTH_BYTES


def usual_bytes(data: bytes) -> dict[str, int]:
    """Bytes of a text under each usual compressor, with its own header."""
    coders: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
        "gzip": (lambda x: gzip.compress(x, 9), gzip.decompress),
        "xz": (lambda x: lzma.compress(x, preset=9), lzma.decompress),
        "zstd": (
            zstandard.ZstdCompressor(level=19).compress,
            zstandard.ZstdDecompressor().decompress,
        ),
    }
    sizes = {"utf-8": len(data)}
    for name, (compress, decompress) in coders.items():
        packed = compress(data)
        if decompress(packed) != data:
            raise click.ClickException(f"{name} does not restore the text")
        sizes[name] = len(packed)
    return sizes


def mem_bytes(lm: FrozenLM, data: bytes, store: str, **options: Any) -> dict[str, Any]:
    """Bytes of vectors and corrections of a text; the archive is read back and decompressed."""
    made = memcram.compress(data, lm, store=store, **options)
    content = made.to_bytes()
    if memcram.decompress(memcram.Archive.from_bytes(content), lm) != data:
        raise click.ClickException("the archive does not restore the text")
    report = made.summary()
    kept = ("vectors", "chunks", "chunks_exact", "tokens", "tokens_corrected", "tokens_guarded")
    return {
        "bytes": report["bits_stored"] / 8,
        "archive_bytes": len(content),
        "bits_per_dimension": report["bits_per_dimension"],
        **{name: report[name] for name in kept},
    }


def stretches(files: tuple[Path, ...], texts: int, n_bytes: int) -> list[bytes]:
    """Stretches of the files in turn, from a word's beginning, of about `n_bytes` bytes."""
    found = []
    for i in range(texts):
        text = files[i % len(files)].read_text("utf-8")
        part = (i // len(files) + 0.61) / ((texts - 1) // len(files) + 1)
        at = text.index(" ", int(len(text) * part)) + 1
        end = text.index(" ", at + n_bytes)
        found.append(text[at:end].encode())
    return found


@click.command()
@click.argument("model")
@click.option("--text", "files", multiple=True, type=Path, required=True, help="A book.")
@click.option("--texts", default=4, show_default=True)
@click.option("--bytes", "n_bytes", default=400, show_default=True, help="Length of a text.")
@click.option("--chunk-tokens", default=12, show_default=True)
@click.option("--steps", default=300, show_default=True)
@click.option("--recipe", default="default", show_default=True)
@click.option("--store", "stores", multiple=True, default=("float32", "int8", "int4", "least"))
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def main(
    model: str,
    files: tuple[Path, ...],
    texts: int,
    n_bytes: int,
    chunk_tokens: int,
    steps: int,
    recipe: str,
    stores: tuple[str, ...],
    output: Path,
) -> None:
    """Compress stretches of books with every coder, and count bytes."""
    lm = memcram.load_lm(model, device="cpu")
    options = {"chunk_tokens": chunk_tokens, "steps": steps, "recipe": recipe}
    rows: list[dict[str, Any]] = []
    for data in stretches(files, texts, n_bytes):
        coded: dict[str, Any] = usual_bytes(data) | {"lm, range coder": lm_bytes(lm, data)}
        mems = {store: mem_bytes(lm, data, store, **options) for store in stores}
        rows.append(coded | {f"[mem], {store}": one["bytes"] for store, one in mems.items()})
        rows[-1]["archives"] = mems
        click.echo(json.dumps(rows[-1]))
        shares = {
            name: [row[name] / row["utf-8"] for row in rows]
            for name in rows[0]
            if name != "archives"
        }
        summary = {}
        for name, values in shares.items():
            found = spread(values, 0)
            summary[name] = {
                "mean_fraction_of_utf-8": round(found.mean, 4),
                "interval": [round(end, 4) for end in found.ci95] if found.ci95 else None,
            }
        report = {
            "model": Path(model).name,
            "texts": [path.name for path in files[:texts]],
            "n": len(rows),
            "options": options,
            "summary": summary,
            "per_text": rows,
            "versions": {
                name: version(name) for name in ("memcram", "torch", "constriction", "zstandard")
            },
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
