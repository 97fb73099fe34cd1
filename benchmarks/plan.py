"""Compare the estimate of `memcram plan` with what `memcram compress` then does.

    python benchmarks/plan.py BOOK.txt -o benchmarks/results/plan_pocket.json

The first bytes of a book are estimated. A part of them is estimated in two ways, from the chunks
sampled from the whole and from its own chunks, and then compressed.
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
from memcram.compression.estimate import Plan, plan
from memcram.metrics.cutting import Interval


def first_bytes(path: Path, limit: int) -> bytes:
    """At most `limit` bytes from the start, cut before a broken character."""
    return path.read_bytes()[:limit].decode("utf-8", "ignore").encode()


def compress(data: bytes, lm: memcram.FrozenLM) -> dict[str, Any]:
    """Compress the part: what it takes, and whether it comes back."""
    started = time.perf_counter()
    archive = memcram.compress(data, lm)
    seconds = time.perf_counter() - started
    content = archive.to_bytes()
    restored = memcram.decompress(memcram.Archive.from_bytes(content), lm) == data
    return {
        **archive.summary(),
        "archive_bytes": len(content),
        "restored": restored,
        "seconds": seconds,
    }


def compressed_before(report: Path, data: bytes, lm: memcram.FrozenLM) -> dict[str, Any]:
    """Return the same from the report and the archive of `memcram compress --json`."""
    found: dict[str, Any] = json.loads(report.read_text())
    archive = Path(found.pop("output"))
    restored = memcram.decompress(memcram.Archive.read(archive), lm) == data
    return {**found, "archive_bytes": archive.stat().st_size, "restored": restored}


def held(planned: Plan, real: dict[str, Any]) -> dict[str, Any]:
    """For each quantity: estimate, measured value, their ratio, inside the interval or not."""
    rows = {}
    for name in ("vectors", "tokens_per_vector", "archive_bytes", "seconds"):
        interval: Interval = getattr(planned, name)
        rows[name] = {
            **asdict(interval),
            "real": real[name],
            "real_over_expected": real[name] / interval.expected,
            "inside": interval.low <= real[name] <= interval.high,
        }
    return rows


@click.command()
@click.argument("book", type=click.Path(path_type=Path, exists=True))
@click.option("--bytes", "limit", default=100_000, show_default=True, help="Bytes to estimate.")
@click.option("--share", default=10_000, show_default=True, help="Bytes of them to compress.")
@click.option("--samples", default=12, show_default=True)
@click.option("--model", default="pocket", show_default=True)
@click.option("--report", type=click.Path(path_type=Path, exists=True), metavar="FILE")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(
    book: Path,
    limit: int,
    share: int,
    samples: int,
    model: str,
    report: Path | None,
    output: Path | None,
) -> None:
    """Estimate, compress a part, compare; FILE: JSON that `memcram compress` printed of it."""
    lm = memcram.load_lm(model)
    whole, part = first_bytes(book, limit), first_bytes(book, share)
    planned = plan(whole, lm, samples=samples)
    scaled = plan(part, lm, measured={1: planned.plans[0].measured})
    own = plan(part, lm, samples=samples)
    print(json.dumps(asdict(planned), indent=2), flush=True)
    real = compress(part, lm) if report is None else compressed_before(report, part, lm)
    result = {
        "model": lm.identity.id,
        "book": book.name,
        "samples": samples,
        "bytes": limit,
        "share_bytes": share,
        "plan": asdict(planned),
        "compressed_share": real,
        "from_the_whole": held(scaled.plans[0], real),
        "from_the_share": held(own.plans[0], real),
        "plan_of_share": asdict(own),
        "threads": torch.get_num_threads(),
        "device": str(lm.device),
        "processor": platform.machine(),
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
    }
    print(json.dumps({name: result[name] for name in ("from_the_whole", "from_the_share")}))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
