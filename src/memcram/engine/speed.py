"""Measure the cost of optimiser steps through a model on this device."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine, EngineStatus
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


class _EnoughError(Exception):
    """Ends a run of the engine once enough polls are timed, before any text is finished."""


def measure_speed(lm: FrozenLM, recipe: Recipe) -> Speed:
    """Time a few optimiser steps of one text of random tokens.

    Raises:
        ModelError: no step could be timed.
    """
    n = min(_TEXT_TOKENS, lm.room(1) or _TEXT_TOKENS)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, lm.vocab_size, (n,), generator=generator)
    on_cuda = lm.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(lm.device)
    engine = Engine(lm, recipe, poll_every=1)
    rate, _ = text_steps_per_second(engine, [CramRequest("text", ids)], polls=_TIMED_STEPS + 1)
    return Speed(
        seconds_per_1000_token_steps=1000 / rate / lm.input_length(1, n),
        peak_bytes=torch.cuda.max_memory_allocated(lm.device) if on_cuda else None,
    )


def text_steps_per_second(
    engine: Engine, requests: Sequence[CramRequest], polls: int
) -> tuple[float, int]:
    """Time texts that all stay in the batch, from the first poll on, which prepares kernels.

    Args:
        engine: its model, recipe and settings are used, with another strategy.
        requests: the texts.
        polls: how often the engine measures.

    Returns:
        optimiser steps per second, summed over the texts, and the number of texts in the batch.

    Raises:
        ModelError: no step could be timed.
    """
    # No margin reaches this.
    strategy = Fixed(steps=polls * engine.poll_every, margin=1e30)
    timed = Engine(
        engine.lm,
        replace(engine.recipe, strategy=strategy),
        poll_every=engine.poll_every,
        compute_dtype=engine.compute_dtype,
        compile_trunk=engine.compile_trunk,
    )
    ticks: list[tuple[float, EngineStatus]] = []

    def tick(status: EngineStatus) -> None:
        ticks.append((time.perf_counter(), status))
        if len(ticks) == polls:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        for _ in timed.run(requests, tick):
            pass
    ticks = [tick for tick in ticks if tick[1].active]
    if len(ticks) < 2:
        model = engine.lm.identity.id
        raise ModelError(f"{model}: no step could be timed (the loss is not finite)")
    text_steps = sum(
        after.active * (after.steps - before.steps) for (_, before), (_, after) in pairwise(ticks)
    )
    return text_steps / (ticks[-1][0] - ticks[0][0]), ticks[-1][1].active
