"""Measure the cost of optimiser steps through a model on this device."""

import time
from dataclasses import dataclass, replace

import torch

from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.errors import ModelError
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies.fixed import Fixed

_TEXT_TOKENS, _TIMED_STEPS = 64, 4


@dataclass(frozen=True)
class Speed:
    """Cost of a few optimiser steps of one short text.

    Attributes:
        seconds_per_1000_token_steps: with one text; a full batch is faster on an accelerator.
        peak_bytes: peak memory allocated on a CUDA device; None elsewhere.
    """

    seconds_per_1000_token_steps: float
    peak_bytes: int | None


def measure_speed(lm: FrozenLM, recipe: Recipe) -> Speed:
    """Time a few optimiser steps of one text of random tokens.

    Raises:
        ModelError: no step could be timed.
    """
    n = min(_TEXT_TOKENS, lm.room(1) or _TEXT_TOKENS)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, lm.vocab_size, (n,), generator=generator)
    # No margin reaches this: the text stays in the batch while the clock runs.
    strategy = Fixed(steps=_TIMED_STEPS + 1, margin=1e30)
    engine = Engine(lm, replace(recipe, strategy=strategy), poll_every=1)
    on_cuda = lm.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(lm.device)
    ticks: list[float] = []
    for _ in engine.run([CramRequest("text", ids)], lambda _: ticks.append(time.perf_counter())):
        pass
    if len(ticks) < 3:
        raise ModelError(f"{lm.identity.id}: no step could be timed (the loss is not finite)")
    seconds = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    return Speed(
        seconds_per_1000_token_steps=1000 * seconds / lm.input_length(1, n),
        peak_bytes=torch.cuda.max_memory_allocated(lm.device) if on_cuda else None,
    )
