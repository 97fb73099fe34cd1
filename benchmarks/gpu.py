"""Check memcram on a GPU, and measure its speed there, in one call of less than 10 minutes.

    benchmarks/gpu.sh -o benchmarks/results/gpu.json
    python benchmarks/gpu.py --device cpu --quick       # that the script itself works

Nothing is downloaded: checks use `pocket`, and speed is that of random weights in the shapes of
real models. The file is written after every part, so that one cut short keeps what it has.
"""

import json
import platform
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

import gpu_checks
import gpu_speed
from gpu_site import Site

Part = Callable[[Site], dict[str, Any]]

CHECKS: dict[str, Part] = gpu_checks.CHECKS
FIGURES: dict[str, Part] = gpu_speed.FIGURES


def run_part(part: Part, site: Site, deadline: float) -> dict[str, Any]:
    """Run a part; an error is its result.

    Returns:
        `passed`, `message` (None if it passed), `seconds`, and the part's own `figures`.
    """
    began = time.perf_counter()
    figures: dict[str, Any] = {}
    message = None
    if began > deadline:
        message = "not run: no time was left"
    else:
        try:
            figures = part(site)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts still run
            frame = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{Path(frame.filename).name}:{frame.lineno}"
            message = f"{type(error).__name__} at {at}: {error}"
    seconds = round(time.perf_counter() - began, 3)
    return {"passed": message is None, "message": message, "seconds": seconds, "figures": figures}


def conditions(site: Site) -> dict[str, Any]:
    """Versions and device that the figures depend on."""
    found: dict[str, Any] = {
        "kind": site.device.type,
        "name": platform.processor() or platform.machine(),
        "driver": None,
        "threads": torch.get_num_threads(),
    }
    if site.on_cuda:
        properties = torch.cuda.get_device_properties(site.device)
        found |= {
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    packages = ("memcram", "torch", "transformers")
    return {
        "device": found,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "quick": site.quick,
    }


def _driver() -> str | None:
    """Version of the NVIDIA driver, as `nvidia-smi` says it; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().split("\n")[0] or None


def run(
    site: Site,
    checks: Mapping[str, Part],
    figures: Mapping[str, Part],
    seconds: float,
    output: Path,
) -> dict[str, Any]:
    """Run all parts, and write the report after each.

    Args:
        site: device and sizes.
        checks, figures: parts by name; both fail by raising an error.
        seconds: no part begins after this time.
        output: file of the report.
    """
    began = time.perf_counter()
    report: dict[str, Any] = conditions(site) | {"checks": {}, "figures": {}}
    for kind, parts in (("checks", checks), ("figures", figures)):
        for name, part in parts.items():
            click.echo(f"{name} ...", err=True)
            done = run_part(part, site, began + seconds)
            report[kind][name] = done
            click.echo(f"  {done['message'] or done['figures'] or 'passed'}", err=True)
            parts_done = report["checks"] | report["figures"]
            report["failed"] = {n: p["message"] for n, p in parts_done.items() if not p["passed"]}
            report["seconds"] = round(time.perf_counter() - began, 1)
            output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


@click.command()
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:1 or cpu.")
@click.option("--quick", is_flag=True, help="Small sizes and few steps, to see that it runs.")
@click.option("--minutes", default=9.0, show_default=True, help="No part begins after this time.")
@click.option(
    "-o",
    "--output",
    default="gpu.json",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The report.",
)
def main(device: str, quick: bool, minutes: float, output: Path) -> None:
    """Check memcram on a device, and measure its speed there."""
    site = Site(torch.device(device), quick)
    report = run(site, CHECKS, FIGURES, 60 * minutes, output)
    click.echo(json.dumps(report, indent=1))
    sys.exit(1 if report["failed"] else 0)


if __name__ == "__main__":
    main()
