"""The first bytes of books at the defaults: are they restored, with how many tokens a vector?

python benchmarks/books.py BOOK.txt... --bytes 1500 -o benchmarks/results/books.json
"""

import json
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

import memcram
from memcram.metrics.statistics import spread


def first_bytes(path: Path, limit: int) -> bytes:
    """At most `limit` bytes from the start, cut before a broken character."""
    return path.read_bytes()[:limit].decode("utf-8", "ignore").encode()


def measure(path: Path, limit: int, lm: memcram.FrozenLM, recipe: str) -> dict[str, Any]:
    """Compress, write, read, decompress and compare one book's beginning."""
    data = first_bytes(path, limit)
    started = time.perf_counter()
    archive = memcram.compress(data, lm, recipe=recipe)
    seconds = time.perf_counter() - started
    read = memcram.Archive.from_bytes(archive.to_bytes())
    restored = memcram.decompress(read, lm) == data
    return {"book": path.name, "restored": restored, "seconds": seconds, **read.summary()}


@click.command()
@click.argument("books", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--bytes", "limit", default=1500, show_default=True, help="Taken from each book.")
@click.option("--model", default="pocket", show_default=True)
@click.option("--recipe", default="default", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(books: tuple[Path, ...], limit: int, model: str, recipe: str, output: Path | None) -> None:
    """Measure each book and print the spread."""
    lm = memcram.load_lm(model)
    rows = []
    for book in books:
        row = measure(book, limit, lm, recipe)
        rows.append(row)
        print(
            f"{row['book']}: restored {row['restored']}, {row['tokens']} tokens in "
            f"{row['vectors']} vectors, {row['tokens_corrected']} corrected, "
            f"{row['seconds']:.0f} s",
            flush=True,
        )
    tokens = sum(row["tokens"] for row in rows)
    summary = {
        "model": lm.identity.id,
        "recipe": memcram.get_recipe(recipe).settings(),
        "bytes": limit,
        "books": len(rows),
        "restored": sum(row["restored"] for row in rows),
        "share_uncorrected": 1 - sum(row["tokens_corrected"] for row in rows) / tokens,
        "tokens_per_vector": asdict(spread([row["tokens_per_vector"] for row in rows])),
        "seconds": asdict(spread([row["seconds"] for row in rows])),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
    }
    print(json.dumps(summary, indent=2))
    if output is not None:
        output.write_text(json.dumps({**summary, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
