"""Figures of `gpu.py`: speed and memory of steps in the shapes of real models."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig

import memcram
from gpu_site import Site, random_lm, require
from memcram.engine.compute import ComputeDtype
from memcram.engine.loop import Engine, EngineStatus
from memcram.models import FrozenLM
from memcram.recipes.strategies.fixed import Fixed

_SMALL = {"num_hidden_layers": 2, "vocab_size": 4096}
_SECONDS = 20.0


def smollm2_135m(site: Site) -> FrozenLM:
    """Random weights in the shapes of SmolLM2-135M."""
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49_152,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    return random_lm(_shrunk(config, site), site.device)


def llama_1b(site: Site) -> FrozenLM:
    """Random weights in the shapes of Llama-3.2-1B."""
    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        vocab_size=128_256,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    if site.quick:
        config.hidden_size, config.intermediate_size = 256, 512
    return random_lm(_shrunk(config, site), site.device)


def _shrunk(config: LlamaConfig, site: Site) -> LlamaConfig:
    for name, value in _SMALL.items() if site.quick else ():
        setattr(config, name, value)
    return config


class _EnoughError(Exception):
    """Enough steps were timed."""


def random_texts(lm: FrozenLM, texts: int, tokens: int) -> list[Tensor]:
    """Texts of random tokens."""
    generator = torch.Generator().manual_seed(0)
    return list(torch.randint(0, lm.vocab_size, (texts, tokens), generator=generator))


def step_seconds(
    site: Site,
    lm: FrozenLM,
    dtype: ComputeDtype,
    texts: list[Tensor],
    *,
    compile_trunk: bool = False,
    trunk: Callable[[FrozenLM], Any] | None = None,
) -> dict[str, Any]:
    """Seconds per step of the engine, with all texts in one batch; the median over polls.

    The host waits for the device at a poll, so the time between polls is that of their steps. The
    first poll, which compiles or captures, is not timed. `trunk` wraps the engine's.
    """
    every = 2 if site.quick else 8
    polls = 4 if site.quick else 12
    # No margin reaches this: all texts stay in the batch.
    strategy = Fixed(steps=every * (polls + 1), margin=1e30)
    recipe = replace(memcram.get_recipe("default"), strategy=strategy)
    positions = len(texts) * (lm.input_length(1, len(texts[0])) + 16)
    engine = Engine(lm, recipe, positions, every, compute_dtype=dtype, compile_trunk=compile_trunk)
    engine._finisher = None
    if trunk is not None:
        engine._trunk = trunk(engine._trunk)
    ticks: list[float] = []

    def note(status: EngineStatus) -> None:
        ticks.append(time.perf_counter())
        if len(ticks) > polls or (len(ticks) > 3 and ticks[-1] - ticks[0] > _SECONDS):
            raise _EnoughError

    site.forget_peak()
    try:
        for _ in engine.run([memcram.CramRequest(i, ids) for i, ids in enumerate(texts)], note):
            pass
    except _EnoughError:
        pass
    turns = [b - a for a, b in pairwise(ticks[1:])]  # the first step prepares kernels
    return {
        "seconds": statistics.median(turns) / every,
        "steps_timed": every * len(turns),
        "peak_bytes": site.peak_bytes(),
    }


def published_step_seconds(site: Site, module: Any, dtype: torch.dtype, ids: Tensor) -> float:
    """Seconds per step of a plain loop over one text, as published code has it.

    A batch of one, torch's AdamW, all logits, and two values read by the host in every step.
    """
    ids = ids.to(site.device)
    embeds = module.get_input_embeddings()(ids[:-1])
    mem = nn.Parameter(torch.randn(1, embeds.shape[1], device=site.device))
    optimiser = torch.optim.AdamW([mem], lr=0.01, betas=(0.9, 0.9), weight_decay=0.01)
    times: list[float] = []
    while len(times) < (4 if site.quick else 40) and sum(times) < _SECONDS:
        began = time.perf_counter()
        inputs = torch.cat([mem.to(dtype), embeds])[None]
        logits = module(inputs_embeds=inputs, use_cache=False).logits[0]
        loss = cross_entropy(logits.float(), ids)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        (logits.argmax(-1) == ids).sum().item()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def engine_against_published_loop(site: Site) -> dict[str, Any]:
    """Text-steps per second of 64 texts of 128 tokens, against one text at a time."""
    lm = smollm2_135m(site)
    texts = random_texts(lm, 4 if site.quick else 64, 16 if site.quick else 128)
    found: dict[str, Any] = {"texts": len(texts), "tokens": len(texts[0])}
    rates: dict[str, dict[str, float]] = {"engine": {}, "published_loop": {}}
    for dtype in ("float32", "bfloat16"):
        step = step_seconds(site, lm, dtype, texts)
        found[f"engine_{dtype}"] = step
        rates["engine"][dtype] = len(texts) / step["seconds"]
        module = lm.in_dtype(getattr(torch, dtype)).module
        seconds = published_step_seconds(site, module, getattr(torch, dtype), texts[0])
        rates["published_loop"][dtype] = 1 / seconds
    # The loop at its fastest; the engine in what `auto` may choose.
    ratio = max(rates["engine"].values()) / max(rates["published_loop"].values())
    return found | {"text_steps_per_second": rates, "ratio": ratio} | _target(site, ratio, 60.0)


class Graphed:
    """A frozen LM whose trunk is captured in a CUDA graph per shape, and replayed.

    Forward and backward pass are captured; head, optimiser and measurements stay as they are.
    """

    def __init__(self, lm: FrozenLM) -> None:
        self._lm = lm
        self._captured: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    def __getattr__(self, name: str) -> Any:
        """Everything else is that of the model."""
        return getattr(self._lm, name)

    def hidden(self, embeds: Tensor) -> Tensor:
        """Hidden states of `embeds` (slot, position, width), overwritten by the next call."""
        if embeds.shape not in self._captured:
            sample = torch.zeros_like(embeds).requires_grad_()
            captured = torch.cuda.make_graphed_callables(self._lm.hidden, (sample,))
            self._captured[embeds.shape] = captured
        return self._captured[embeds.shape](embeds)


def gradients(lm: Any, embeds: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states, and the gradient of their sum of squares to the inputs."""
    inputs = embeds.clone().requires_grad_()
    hidden = lm.hidden(inputs)
    gradient = torch.autograd.grad(hidden.square().sum(), inputs)[0]
    return hidden.detach().clone(), gradient.clone()


def graphs_and_compiled_layers(site: Site) -> dict[str, Any]:
    """Seconds per bfloat16 step of 16 texts: eager, with compiled layers, with CUDA graphs.

    16 texts leave a large card waiting for the host, which is what a graph avoids. A CPU has no
    graphs, and compiling takes it a minute, so only eager steps run there.
    """
    lm = smollm2_135m(site)
    texts = random_texts(lm, 2 if site.quick else 16, 16 if site.quick else 128)
    found = {"eager": step_seconds(site, lm, "bfloat16", texts)}
    if site.on_cuda:
        found["compiled"] = step_seconds(site, lm, "bfloat16", texts, compile_trunk=True)
        low = lm.in_dtype(torch.bfloat16)
        graphed, inputs = Graphed(low), low.embed(torch.stack(texts))
        for one in (inputs, inputs.flip(0)):
            same = zip(gradients(graphed, one), gradients(low, one), strict=True)
            require(all(torch.equal(a, b) for a, b in same), "a graph gives other numbers")
        found["graphs"] = step_seconds(site, lm, "bfloat16", texts, trunk=Graphed)
    eager = found["eager"]["seconds"]
    return found | {"speedup": {name: eager / one["seconds"] for name, one in found.items()}}


def matrix_rate(site: Site) -> float:
    """FLOP/s of a large bfloat16 matrix product: the fastest of several runs."""
    n = 256 if site.quick else 8192
    a, b = torch.randn(2, n, n, device=site.device, dtype=torch.bfloat16)
    times = []
    for _ in range(3 if site.quick else 20):
        site.wait()
        began = time.perf_counter()
        a @ b
        site.wait()
        times.append(time.perf_counter() - began)
    return 2 * n**3 / min(times[1:])


def step_flop(lm: FrozenLM, texts: int, tokens: int) -> float:
    """Operations that a step must do in linear maps; those of attention are left out.

    4 per weight of the trunk and position, since frozen weights need no gradient, and 2 per weight
    of the head and token, for the search of the best other token.
    """
    head = lm.module.get_output_embeddings()
    linear = [one for one in lm.module.modules() if isinstance(one, nn.Linear) and one is not head]
    trunk = sum(one.weight.numel() for one in linear)
    positions = texts * lm.input_length(1, tokens)
    return 4.0 * trunk * positions + 2.0 * head.weight.numel() * texts * tokens


def fraction_of_matrix_rate(site: Site) -> dict[str, Any]:
    """Fraction of the measured bfloat16 matrix rate at the shapes of Llama-3.2-1B, 512 tokens."""
    ceiling = matrix_rate(site)
    lm = llama_1b(site)
    count, tokens = (2, 32) if site.quick else (24, 512)
    step = step_seconds(site, lm, "bfloat16", random_texts(lm, count, tokens))
    flop = step_flop(lm, count, tokens)
    fraction = flop / step["seconds"] / ceiling
    return {
        "texts": count,
        "tokens": tokens,
        "step": step,
        "step_flop": flop,
        "matrix_flop_per_second": ceiling,
        "fraction": fraction,
    } | _target(site, fraction, 0.4)


def _target(site: Site, value: float, target: float) -> dict[str, Any]:
    """State the target, and whether it is met; on a CPU or at small sizes there is none."""
    if site.quick or not site.on_cuda:
        return {"target": None, "met": None}
    return {"target": target, "met": value >= target}


FIGURES: dict[str, Callable[[Site], dict[str, Any]]] = {
    "SmolLM2-135M, engine against the published loop": engine_against_published_loop,
    "SmolLM2-135M, compiled layers and CUDA graphs": graphs_and_compiled_layers,
    "Llama-3.2-1B, fraction of the matrix rate": fraction_of_matrix_rate,
}
