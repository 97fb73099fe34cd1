"""Whose time it was: the seconds of a batch, shared out by token-steps."""

import time

from memcram.engine.loop import EngineStatus
from memcram.engine.result import Crammed


class Clock:
    """Seconds that the engine worked, and for how many token-steps.

    Other work is left out by `pause` and `resume`. What texts in the batch have used so far is not
    known; their optimiser steps are, and their length is taken to be the mean of all texts.

    Args:
        mean_positions: mean input positions of the texts.
    """

    def __init__(self, mean_positions: float) -> None:
        self._mean = mean_positions
        self._seconds = 0.0
        self._since = time.perf_counter()
        self._turns = 0
        self._slot_turns = 0
        self._retired_turns = 0
        self._retired_token_steps = 0

    def seen(self, status: EngineStatus) -> None:
        """The engine has come to `status`."""
        self._slot_turns += status.active * (status.steps - self._turns)
        self._turns = status.steps

    def retired(self, crammed: Crammed) -> None:
        """A text is done."""
        self._retired_turns += crammed.steps
        self._retired_token_steps += crammed.token_steps

    def pause(self) -> None:
        """The engine waits for other work."""
        self._seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        """It goes on."""
        self._since = time.perf_counter()

    def share(self, crammed: Crammed) -> float:
        """Seconds that fall to a text; to be asked while paused."""
        in_work = max(0, self._slot_turns - self._retired_turns) * self._mean
        total = self._retired_token_steps + in_work
        return self._seconds * crammed.token_steps / total if total else 0.0
