"""One forward and backward pass on a CPU: torch's fused attention against the plain path.

python benchmarks/attention.py -o benchmarks/results/attention.json
"""

import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import click
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import memcram

SHAPES = ((32, 32), (16, 128))


def seconds(lm: memcram.FrozenLM, shape: tuple[int, int], backend: SDPBackend) -> float:
    """Time of one pass over random inputs (text, position) that reaches back to the inputs."""
    embeds = torch.randn(*shape, lm.input_width).mul_(lm.embedding_std).requires_grad_()
    started = time.perf_counter()
    with sdpa_kernel(backend):
        lm.module.base_model(
            inputs_embeds=embeds, use_cache=False
        ).last_hidden_state.sum().backward()
    return time.perf_counter() - started


@click.command()
@click.option("--repeats", default=7, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(repeats: int, output: Path | None) -> None:
    """Time both paths in turn, A B A B, and print the ratio of each turn."""
    lm = memcram.load_lm("pocket", device="cpu")
    rows = []
    for shape in SHAPES:
        ratios = []
        for turn in range(repeats + 1):
            fused = seconds(lm, shape, SDPBackend.FLASH_ATTENTION)
            plain = seconds(lm, shape, SDPBackend.MATH)
            if turn:  # the first warms up
                ratios.append(fused / plain)
        rows.append(
            {
                "texts": shape[0],
                "positions": shape[1],
                "n": repeats,
                "fused_over_plain": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
            }
        )
        print(rows[-1])
    result = {
        "model": "pocket",
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "rows": rows,
    }
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
