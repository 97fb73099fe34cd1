"""Compare a study in one process with the same study on Ray workers, in one run.

    python benchmarks/workers.py -o benchmarks/results/workers.json

The two sides take turns; each turn gives one ratio. One thread per process on both sides, so that
N workers have N cores and the local run one. The time from the start of the study to its end is
compared; the time that Ray takes to start is given apart.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import click
import torch

from memcram.distributed.pool import Cluster, RayBackend
from memcram.distributed.study import RayWorkers
from memcram.study import Store, open_store, read_spec, run_study
from memcram.study.workers import InProcess, Workers

SPEC = """
name = "workers"
kind = "horizon"
models = ["pocket"]
lengths = [48]
samples = {samples}
token_steps = {token_steps}

[[texts]]
name = "words"
source = "random-words"
words = 60
"""


def measured(folder: Path, name: str, workers: Workers) -> tuple[float, Store]:
    """Run the study into a new store; return seconds and the store."""
    spec = read_spec(folder / "workers.toml")
    store = open_store(folder / f"{name}.study", spec)
    began = time.perf_counter()
    with store.lock():
        run_study(spec, store, workers=workers)
    return time.perf_counter() - began, store


def rows(store: Store) -> list[dict[str, object]]:
    """The rows, without the time that they took."""
    return [{k: v for k, v in vars(row).items() if k != "seconds"} for row in store.rows()]


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON file to write.")
@click.option("--workers", default=2, show_default=True)
@click.option("--turns", default=3, show_default=True)
@click.option("--samples", default=96, show_default=True, help="Texts.")
@click.option("--token-steps", default=6000, show_default=True, help="Budget per text.")
def main(output: Path | None, workers: int, turns: int, samples: int, token_steps: int) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    found = []
    for turn in range(turns):
        with tempfile.TemporaryDirectory() as name:
            folder, load = Path(name), os.getloadavg()[0]
            text = SPEC.format(samples=samples, token_steps=token_steps)
            (folder / "workers.toml").write_text(text)
            local, alone = measured(folder, "local", InProcess("cpu"))
            began = time.perf_counter()
            with Cluster(RayBackend(workers=workers)) as cluster:
                start = time.perf_counter() - began
                shared, together = measured(folder, "ray", RayWorkers(cluster))
            if rows(alone) != rows(together):
                raise click.ClickException("the two stores have different rows")
        found.append(
            {
                "load_average": load,
                "local_seconds": local,
                "ray_seconds": shared,
                "ray_start_seconds": start,
                "ratio": local / shared,
            }
        )
        print(f"turn {turn}: {found[-1]}", flush=True)
    report = {
        "texts": samples,
        "token_steps": token_steps,
        "workers": workers,
        "cores": len(os.sched_getaffinity(0)),
        "median_ratio": statistics.median(one["ratio"] for one in found),
        "turns": found,
        "platform": platform.platform(),
        "versions": {name: version(name) for name in ("memcram", "torch", "ray")},
    }
    print(json.dumps(report, indent=1))
    if output is not None:
        output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
