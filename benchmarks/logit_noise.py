"""Measure how far logits and margins differ between computations that should agree.

    python benchmarks/logit_noise.py -o benchmarks/results/logit_noise.json

Each model and input goes through a reference path (teacher-forced, one batch, attention in plain
matrix products, one thread), then through paths that change one thing each. The result is the
distribution of |difference|, for logits and for margins (target − best other logit), from which
the guard threshold of docs/decisions/008-guards.md is taken.
"""

import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import click
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import memcram
from memcram.engine.loop import Engine
from memcram.models import FrozenLM, decoding, packaged_models
from memcram.models.accounting import margins

TOKENS = 16
BATCHES = (1, 2, 7, 32)
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Inputs:
    """What goes through a model.

    Attributes:
        mems: (text, 1, width) in float32.
        ids: (text, token), fed after the vector; the last one is only predicted.
    """

    name: str
    mems: Tensor
    ids: Tensor


@dataclass(frozen=True)
class Spread:
    """|difference| over `n` values."""

    n: int
    max: float
    p999: float
    mean: float


@dataclass(frozen=True)
class Row:
    """One path against the reference of the same dtype; the scale is the logits' deviation."""

    model: str
    inputs: str
    dtype: str
    path: str
    logit_scale: float
    logits: Spread
    margins: Spread


Run = Callable[[Inputs], Tensor]


def teacher_forced(lm: FrozenLM, inputs: Inputs, batch: int | None = None) -> Tensor:
    """Logits (text, token, vocabulary), `batch` texts at a time."""
    with torch.no_grad():
        return _batched(lambda embeds: lm.head(lm.hidden(embeds)), _embeds(lm, inputs), batch)


def whole_module(lm: FrozenLM, inputs: Inputs) -> Tensor:
    """Compute the same with transformers alone and the attention kernel that torch chooses."""
    with torch.no_grad():
        logits: Tensor = lm.module(inputs_embeds=_embeds(lm, inputs), use_cache=False).logits
    return logits.cpu()


def cached(lm: FrozenLM, inputs: Inputs, batch: int | None = None) -> Tensor:
    """Compute the same token by token, as decoding does."""

    def decode_along(embeds: Tensor) -> Tensor:
        cache, steps = None, []
        for position in range(embeds.shape[1]):
            logits, cache = lm.advance(embeds[:, position : position + 1], cache)
            steps.append(logits)
        return torch.stack(steps, dim=1)

    return _batched(decode_along, _embeds(lm, inputs), batch)


def with_threads(count: int, path: Run) -> Run:
    """Run `path` on `count` threads."""

    def threaded(inputs: Inputs) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            return path(inputs)
        finally:
            torch.set_num_threads(before)

    return threaded


def paths(load: Callable[..., FrozenLM], dtype: str) -> Iterator[tuple[str, Run]]:
    """Yield the reference, then every path that changes one thing."""
    lm = load(dtype=dtype)
    yield "reference", lambda x: teacher_forced(lm, x)
    yield "cached", lambda x: cached(lm, x)
    for batch in BATCHES:
        yield f"batch of {batch}", lambda x, b=batch: teacher_forced(lm, x, b)
    for batch in BATCHES:
        yield f"cached, batch of {batch}", lambda x, b=batch: cached(lm, x, b)
    yield "cached, 2 threads", with_threads(2, lambda x: cached(lm, x))
    yield "2 threads", with_threads(2, lambda x: teacher_forced(lm, x))
    yield "torch's own choice of kernel", lambda x: whole_module(lm, x)
    eager = load(dtype=dtype, attention="eager")
    yield "eager", lambda x: teacher_forced(eager, x)
    yield "eager, cached", lambda x: cached(eager, x)
    if dtype == "float32":
        wide = load(dtype="float64")
        yield "float64", lambda x: teacher_forced(wide, x)
    if torch.cuda.is_available():
        there = load(dtype=dtype, device="cuda")
        yield "cuda", lambda x: teacher_forced(there, x)
        yield "cuda, cached", lambda x: cached(there, x)


def measure(name: str, load: Callable[..., FrozenLM], inputs: list[Inputs]) -> Iterator[Row]:
    """Compare every path of every dtype with its reference."""
    for dtype in DTYPES:
        references: dict[str, Tensor] = {}
        for path, logits_of in paths(load, dtype):
            for one in inputs:
                logits = logits_of(one).double()
                if path == "reference":
                    references[one.name] = logits
                    continue
                reference = references[one.name]
                targets = one.ids if one.name == "crammed" else reference.argmax(-1)
                yield Row(
                    model=name,
                    inputs=one.name,
                    dtype=dtype,
                    path=path,
                    logit_scale=reference.std().item(),
                    logits=_spread(logits - reference),
                    margins=_spread(_margins(logits, targets) - _margins(reference, targets)),
                )


def crammed_inputs(lm: FrozenLM, texts: tuple[str, ...], chunks: int, steps: int) -> Inputs:
    """Cram `chunks` stretches of the texts into one vector each; keep the exact ones."""
    ids = torch.tensor([token for text in texts for token in lm.tokenize(text)])
    stretches = [stretch for stretch in ids.split(TOKENS) if len(stretch) == TOKENS]
    chosen = stretches[:: max(1, len(stretches) // chunks)][:chunks]
    recipe = memcram.get_recipe("default").with_steps(steps)
    requests = [memcram.CramRequest(i, stretch, seed=i) for i, stretch in enumerate(chosen)]
    done = {crammed.key: crammed.mem for crammed in Engine(lm, recipe).run(requests)}
    mems = [done[i] for i in range(len(chosen))]
    decoded = decoding.greedy(lm, mems, [TOKENS] * len(mems))
    kept = [i for i, one in enumerate(decoded) if torch.equal(one.ids, chosen[i])]
    click.echo(f"{len(kept)} of {len(chosen)} chunks of {TOKENS} tokens crammed exactly", err=True)
    kept = kept or list(range(len(chosen)))
    return Inputs(
        "crammed", torch.stack([mems[i] for i in kept]), torch.stack([chosen[i] for i in kept])
    )


def random_inputs(lm: FrozenLM, chunks: int) -> list[Inputs]:
    """Random tokens after an embedding, and after a random vector of norm 30."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, lm.vocab_size, (chunks, TOKENS + 1), generator=generator)
    noise = torch.randn(chunks, 1, lm.input_width, generator=generator)
    large = 30 * noise / noise.norm(dim=-1, keepdim=True)
    usual = lm.embed(ids[:, :1]).float().cpu()
    return [Inputs("embeddings", usual, ids[:, 1:]), Inputs("norm 30", large, ids[:, 1:])]


def save_wide_model(folder: Path, layers: int) -> Path:
    """Make a random-weight Llama of width 2,048 with the packaged tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for path in packaged_models()["pocket"].glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder


def _embeds(lm: FrozenLM, inputs: Inputs) -> Tensor:
    mems = inputs.mems.to(lm.device, lm.dtype)
    return torch.cat([mems, lm.embed(inputs.ids[:, :-1])], dim=1)


def _batched(path: Callable[[Tensor], Tensor], embeds: Tensor, batch: int | None) -> Tensor:
    """Run `path` on `batch` texts at a time; texts repeat to fill the last batch."""
    size = batch or len(embeds)
    rows = torch.arange(-(-len(embeds) // size) * size) % len(embeds)
    return torch.cat([path(embeds[part]).cpu() for part in rows.split(size)])[: len(embeds)]


def _margins(logits: Tensor, targets: Tensor) -> Tensor:
    return margins(logits.flatten(0, 1), targets.flatten())


def _spread(difference: Tensor) -> Spread:
    values = difference.abs().flatten()
    p999 = values.kthvalue(max(1, round(0.999 * len(values)))).values.item()
    return Spread(len(values), values.max().item(), p999, values.mean().item())


def _table(rows: list[Row]) -> str:
    head = f"{'model':<7} {'inputs':<10} {'dtype':<9} {'path':<28} {'scale':>6}"
    head += f" {'logit max':>10} {'99.9 %':>8} {'mean':>8} {'margin max':>11} {'mean':>8}"
    lines = [head]
    for row in rows:
        line = f"{row.model:<7} {row.inputs:<10} {row.dtype:<9} {row.path:<28}"
        line += f" {row.logit_scale:>6.2f} {row.logits.max:>10.1e} {row.logits.p999:>8.1e}"
        lines.append(
            f"{line} {row.logits.mean:>8.1e} {row.margins.max:>11.1e} {row.margins.mean:>8.1e}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--texts", multiple=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--chunks", default=12, show_default=True, help="Texts of 16 tokens a model.")
@click.option("--steps", default=1500, show_default=True, help="Budget to cram a chunk.")
@click.option("--layers", default=2, show_default=True, help="Of the model of width 2,048.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write JSON there too.")
def main(
    texts: tuple[str, ...],
    chunks: int,
    steps: int,
    layers: int,
    as_json: bool,
    output: str | None,
) -> None:
    """Measure how far logits and margins differ between paths that should agree."""
    torch.set_num_threads(1)
    demo = files("memcram").joinpath("data/demo.txt").read_text("utf-8")
    contents = tuple(Path(text).read_text("utf-8") for text in texts) or (demo,)

    def pocket(dtype: str = "float32", attention: str = "sdpa", device: str = "cpu") -> FrozenLM:
        return memcram.load_lm("pocket", dtype=dtype, attention=attention, device=device)

    crammed = crammed_inputs(pocket(), contents, chunks, steps)
    norms = crammed.mems.norm(dim=-1).flatten()
    rows = list(measure("pocket", pocket, [crammed]))
    with tempfile.TemporaryDirectory() as folder:
        name = str(save_wide_model(Path(folder), layers))

        def wide(dtype: str = "float32", attention: str = "sdpa", device: str = "cpu") -> FrozenLM:
            return memcram.load_lm(name, dtype=dtype, attention=attention, device=device)

        rows += measure("2048", wide, random_inputs(wide(), chunks))
    largest = {
        dtype: max(row.margins.max for row in rows if row.dtype == dtype) for dtype in DTYPES
    }
    result = {
        "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
        "machine": {
            "architecture": platform.machine(),
            "vector_instructions": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "crammed": {
            "chunks": len(crammed.mems),
            "tokens": TOKENS,
            "norm_min": norms.min().item(),
            "norm_max": norms.max().item(),
        },
        "largest_margin_difference": largest,
        "rows": [asdict(row) for row in rows],
    }
    if output:
        Path(output).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(result, indent=1) if as_json else _table(rows))


if __name__ == "__main__":
    main()
