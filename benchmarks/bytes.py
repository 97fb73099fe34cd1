"""Compare the bytes of a text under usual compressors, a range coder with the LM, and `[mem]`.

    pip install 'memcram[bytes]'
    python benchmarks/bytes.py MODEL --text BOOK.txt --text BOOK.txt -o bytes.json
    memcram study report NAME.study --bytes bytes.json -o report/

Every coder's round trip is checked for every text. The texts are stretches of books, and random
words of the packaged list.
"""

import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import product
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
from memcram.texts.random_words import RandomWords

STREAM = constriction.stream
# Bytes for the number of tokens, which decoding needs.
_LENGTH_BYTES = 2
# What is kept of an archive's summary.
KEPT = ("bits_per_dimension", "vectors", "chunks", "chunks_exact", "tokens")
KEPT += ("tokens_corrected", "tokens_guarded", "chunks_shortened")


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
        "gzip -9": (lambda x: gzip.compress(x, 9), gzip.decompress),
        "xz -9": (lambda x: lzma.compress(x, preset=9), lzma.decompress),
        "Zstandard, level 19": (
            zstandard.ZstdCompressor(level=19).compress,
            zstandard.ZstdDecompressor().decompress,
        ),
    }
    sizes = {"UTF-8": len(data)}
    for name, (compress, decompress) in coders.items():
        packed = compress(data)
        if decompress(packed) != data:
            raise click.ClickException(f"{name} does not restore the text")
        sizes[name] = len(packed)
    return sizes


def mem_bytes(
    lm: FrozenLM, data: bytes, stores: Sequence[str], **options: Any
) -> dict[str, dict[str, Any]]:
    """Bytes of vectors and corrections of a text in each precision, all from the same vectors.

    The archives are read back and decompressed.
    """
    found = {}
    plain = memcram.compress(data, lm, **options)
    for store in stores:
        made = plain
        if store != "float32":
            made = memcram.compress(data, lm, store=store, init=plain, **options)
        content = made.to_bytes()
        if memcram.decompress(memcram.Archive.from_bytes(content), lm) != data:
            raise click.ClickException("the archive does not restore the text")
        report = made.summary()
        found[store] = {
            "bytes": report["bits_stored"] / 8,
            "archive_bytes": len(content),
            **{name: report[name] for name in KEPT},
        }
    return found


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


def random_words(lm: FrozenLM, texts: int, n_bytes: int) -> list[bytes]:
    """Texts of random words, whole words only, of about `n_bytes` bytes."""
    drawn = RandomWords().sample(lm.tokenize, samples=texts, n_tokens=n_bytes)
    return [one.text[: one.text.index(" ", n_bytes)].encode() for one in drawn]


def summary_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean bytes of each source and coder, and the fraction of UTF-8 with its interval."""
    found = []
    for source in dict.fromkeys(row["source"] for row in rows):
        some = [row for row in rows if row["source"] == source]
        for coder in some[0]["bytes"]:
            fraction = spread([row["bytes"][coder] / row["bytes"]["UTF-8"] for row in some], 0)
            low, high = fraction.ci95 or (None, None)
            sizes = [row["bytes"][coder] for row in some]
            found.append(
                {
                    "source": source,
                    "coder": coder,
                    "n": len(some),
                    "mean_bytes": sum(sizes) / len(sizes),
                    "fraction_of_utf8": fraction.mean,
                    "low": low,
                    "high": high,
                }
            )
            archives = [row["archives"].get(coder.removeprefix("[mem], ")) for row in some]
            bits = [one["bits_per_dimension"] for one in archives if one]
            found[-1]["bits_per_dimension"] = sum(bits) / len(bits) if bits else None
    return found


@click.command()
@click.argument("model")
@click.option("--text", "files", multiple=True, type=Path, required=True, help="A book.")
@click.option("--texts", default=8, show_default=True, help="Texts of each source.")
@click.option("--bytes", "n_bytes", default=200, show_default=True, help="Length of a text.")
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
    """Compress stretches of books and random words with every coder, and count bytes."""
    lm = memcram.load_lm(model, device="cpu")
    options = {"chunk_tokens": chunk_tokens, "steps": steps, "recipe": recipe}
    sources = {
        "books": stretches(files, texts, n_bytes),
        "random words": random_words(lm, texts, n_bytes),
    }
    rows: list[dict[str, Any]] = []
    # The sources in turn, so that a run that is stopped has as many texts of each.
    for i, source in product(range(texts), sources):
        data = sources[source][i]
        archives = mem_bytes(lm, data, stores, **options)
        sizes = usual_bytes(data) | {"range coder with the LM": lm_bytes(lm, data)}
        sizes |= {f"[mem], {store}": one["bytes"] for store, one in archives.items()}
        rows.append({"source": source, "bytes": sizes, "archives": archives})
        click.echo(json.dumps(rows[-1]))
        report = {
            "memcram_bytes": 1,
            "model": Path(model).name,
            "texts": [path.name for path in files[:texts]],
            "options": options,
            "summary": summary_of(rows),
            "per_text": rows,
            "versions": {
                name: version(name) for name in ("memcram", "torch", "constriction", "zstandard")
            },
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
