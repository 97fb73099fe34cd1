"""Compress a text, store the same chunks in each precision, and restore it byte for byte.

    python benchmarks/precision_archive.py TEXT.txt --chunk-tokens 31 -K 2 -o archive.json

The chunks are crammed once in float32. Every other archive starts from these vectors (`--init`),
so all hold the same chunks; a token that fewer bits do not hold gets a correction.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

import memcram
from memcram.models import FrozenLM

STORES = ("float32", "bfloat16", "float16", "int8", "int4", "least")
KEPT = ("tokens", "chunks", "chunks_exact", "chunks_shortened", "vectors", "tokens_per_vector")
KEPT += ("tokens_corrected", "tokens_guarded", "bits_per_dimension")


def measured(archive: Path, data: bytes, lm: FrozenLM) -> dict[str, Any]:
    """One row of the table, of an archive that is read back and decompressed."""
    read = memcram.Archive.read(archive)
    summary = read.summary()
    return {
        "archive_bytes": archive.stat().st_size,
        "bytes_of_vectors": summary["bits_stored"] / 8,
        **{name: summary[name] for name in KEPT},
        "restored": memcram.decompress(read, lm) == data,
    }


@click.command()
@click.argument("text", type=Path)
@click.option("--model", default="pocket", show_default=True)
@click.option("--vectors", "-K", default=1, show_default=True)
@click.option("--chunk-tokens", default=12, show_default=True)
@click.option("--steps", default=400, show_default=True)
@click.option("--store", "stores", multiple=True, default=STORES, help="Instead of all.")
@click.option("--archives", type=Path, help="Folder for the archives; those found are kept.")
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def main(
    text: Path,
    model: str,
    vectors: int,
    chunk_tokens: int,
    steps: int,
    stores: tuple[str, ...],
    archives: Path | None,
    output: Path,
) -> None:
    """Compress TEXT, and count bytes and corrections of its archive in each precision."""
    lm = memcram.load_lm(model, device="cpu")
    data = text.read_bytes()
    folder = archives or output.with_suffix("")
    folder.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "vectors": vectors,
        "chunk_tokens": chunk_tokens,
        "steps": steps,
    }
    rows: dict[str, Any] = {}
    plain = None
    for store in stores:
        path, seconds = folder / f"{store}.mem.safetensors", None
        if not path.exists():
            began = time.process_time()
            made = memcram.compress(data, lm, store=store, init=plain, **settings)
            path.write_bytes(made.to_bytes())
            seconds = round(time.process_time() - began, 1)
        plain = plain or path
        rows[store] = {**measured(path, data, lm), "cpu_seconds": seconds}
        click.echo(f"{store}: {json.dumps(rows[store])}")
        first = next(iter(rows.values()))["archive_bytes"]
        rows[store]["fraction_of_first"] = round(rows[store]["archive_bytes"] / first, 4)
        report = {
            "model": Path(model).name,
            "text": text.name,
            "bytes": len(data),
            **settings,
            "stores": rows,
            "versions": {one: version(one) for one in ("memcram", "torch", "transformers")},
        }
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
