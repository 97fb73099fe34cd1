"""Count the texts that llama.cpp decodes exactly, by the margin they were crammed to.

    python benchmarks/llama_cpp_margins.py MODEL.gguf --work vectors \\
        -o benchmarks/results/llama_cpp.json

Texts are crammed against the dequantised model and decoded with llama.cpp's quantised kernels.
"""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import safetensors.torch
import torch
from torch import Tensor

import memcram
from memcram.engine.loop import Engine
from memcram.export.llama_cpp import as_batch, find_scale
from memcram.export.llama_cpp_decode import Runtime
from memcram.models import FrozenLM, decoding
from memcram.models.accounting import exact_prefix


@dataclass(frozen=True)
class Text:
    """A crammed text.

    Attributes:
        ids: (n,) its tokens.
        mem: (K, width) its vectors.
        steps: optimiser steps they took.
    """

    ids: Tensor
    mem: Tensor
    steps: int


def passages(lm: FrozenLM, file: Path, texts: int, tokens: int) -> list[Tensor]:
    """Passages of a file, evenly spread, that do not overlap."""
    ids = torch.tensor(lm.tokenize(file.read_text("utf-8")))
    stride = len(ids) // texts
    if stride < tokens:
        raise click.UsageError(f"{file} has {len(ids)} tokens, too few for {texts} x {tokens}")
    return [ids[i * stride :][:tokens] for i in range(texts)]


def cram(lm: FrozenLM, rows: list[Tensor], margin: float, work: Path) -> list[Text]:
    """Cram all rows into one vector each, or read what an earlier call kept."""
    kept = work / f"margin-{margin}.safetensors"
    if kept.exists():
        found = safetensors.torch.load_file(kept)
        mems, steps = found["mem"].split(1), found["steps"].tolist()
    else:
        recipe = memcram.get_recipe("default").with_margin(margin)
        engine = Engine(lm, recipe, compute_dtype="bfloat16")
        requests = [memcram.CramRequest(i, ids, 1, i) for i, ids in enumerate(rows)]
        done = {one.key: one for one in engine.run(requests)}
        mems = tuple(done[i].mem for i in range(len(rows)))
        steps = [done[i].steps for i in range(len(rows))]
        found = {"mem": torch.cat(mems), "steps": torch.tensor(steps)}
        safetensors.torch.save_file(found, kept)
    return [Text(*row) for row in zip(rows, mems, steps, strict=True)]


def decode(lm: FrozenLM, runtime: Runtime, scale: float, texts: list[Text]) -> list[dict[str, Any]]:
    """Decode with both: the dequantised model in transformers, and llama.cpp."""
    own = decoding.greedy(lm, [one.mem for one in texts], [len(one.ids) for one in texts])
    rows = []
    for text, one in zip(texts, own, strict=True):
        n = len(text.ids)
        ids = torch.tensor(runtime.decode(**as_batch(text.mem, lm, scale), n_tokens=n))
        rows.append(
            {
                "steps": text.steps,
                "min_margin": round(one.margins.min().item(), 4),
                "tokens": n,
                "correct_prefix_dequantised": exact_prefix(one.ids, text.ids),
                "correct_prefix_llama_cpp": exact_prefix(ids, text.ids),
            }
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count the exact texts of each runtime."""
    whole = [row for row in rows if row["correct_prefix_dequantised"] == row["tokens"]]
    both = [row for row in whole if row["correct_prefix_llama_cpp"] == row["tokens"]]
    return {
        "texts": len(rows),
        "exact_dequantised": len(whole),
        "exact_dequantised_and_llama_cpp": len(both),
        "exact_llama_cpp": sum(r["correct_prefix_llama_cpp"] == r["tokens"] for r in rows),
    }


@click.command()
@click.argument("model")
@click.option("--text", type=Path, required=True, help="File that the passages are taken from.")
@click.option("--texts", default=16, show_default=True)
@click.option("--tokens", default=24, show_default=True, help="Tokens per text.")
@click.option("--margin", "margins", multiple=True, type=float, default=(0.02, 0.5, 1.0, 2.0))
@click.option("--work", type=Path, required=True, help="Folder that keeps the vectors.")
@click.option("-o", "--output", type=Path, required=True, help="JSON file to write.")
def main(
    model: str,
    text: Path,
    texts: int,
    tokens: int,
    margins: tuple[float, ...],
    work: Path,
    output: Path,
) -> None:
    """Cram passages of a text with MODEL, a GGUF file, to each margin, and decode them."""
    work.mkdir(exist_ok=True)
    lm = memcram.load_lm(model, device="cpu")
    rows = passages(lm, text, texts, tokens)
    crammed = {margin: cram(lm, rows, margin, work) for margin in margins}
    runtime = Runtime(model, tokens + 2)
    scale = find_scale(lm, runtime)
    found: dict[str, Any] = {}
    for margin, one in crammed.items():
        per_text = decode(lm, runtime, scale, one)
        found[str(margin)] = {
            **summary(per_text),
            "per_text": per_text,
        }
        click.echo(f"margin {margin}: {summary(per_text)}")
    report = {
        "model": Path(model).name,
        "text": text.name,
        "recipe": "default, K = 1, compute_dtype bfloat16",
        "scale": scale,
        "margins": found,
        "versions": {
            **{name: version(name) for name in ("memcram", "torch", "transformers")},
            "llama_cpp_python": runtime.version,
        },
        "architecture": platform.machine(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
