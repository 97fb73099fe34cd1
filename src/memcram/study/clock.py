"""Attribute batch time to texts."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from memcram.engine.loop import EngineStatus
from memcram.engine.result import Crammed


class Clock:
    """Divides the engine's time among the texts of a batch, in proportion to token-steps.

    Time between `pause` and `resume` does not count. Token-steps of texts still in the batch are
    estimated: their optimiser steps are known, and their length is taken to be the mean.

    Args:
        mean_positions: mean input length of the texts.
    """

    def __init__(self, mean_positions: float) -> None:
        self._mean = mean_positions
        self._seconds = 0.0
        self._since = time.perf_counter()
        self._steps = 0
        self._slot_steps = 0
        self._retired_steps = 0
        self._retired_token_steps = 0

    def begin(self) -> None:
        """Start the clock for a run of the engine, whose steps count from 0."""
        self._steps = 0
        self.resume()

    def observe(self, status: EngineStatus) -> None:
        """Count the steps since the last status."""
        self._slot_steps += status.active * (status.steps - self._steps)
        self._steps = status.steps

    def retire(self, crammed: Crammed) -> None:
        """Count a finished text."""
        self._retired_steps += crammed.steps
        self._retired_token_steps += crammed.token_steps

    def pause(self) -> None:
        """Stop the clock while something other than the engine works."""
        self._seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        """Start the clock again."""
        self._since = time.perf_counter()

    def counters(self) -> Tensor:
        """Return what has been counted so far, including the time since `resume`."""
        seconds = self._seconds + time.perf_counter() - self._since
        counted = [self._slot_steps, self._retired_steps, self._retired_token_steps]
        return torch.tensor([seconds, *counted], dtype=torch.float64)

    def restore(self, counters: Sequence[float]) -> None:
        """Continue from the counters of an interrupted run; call it while paused."""
        self._seconds = counters[0]
        self._slot_steps, self._retired_steps, self._retired_token_steps = map(int, counters[1:])

    def seconds_of(self, crammed: Crammed) -> float:
        """Return the seconds attributed to a text; call it while paused."""
        active = max(0, self._slot_steps - self._retired_steps) * self._mean
        total = self._retired_token_steps + active
        return self._seconds * crammed.token_steps / total if total else 0.0
