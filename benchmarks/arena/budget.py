"""The budget of a text in token-steps, and the lengths of the grid."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from memcram.errors import UsageError
from memcram.models.accounting import Accounting
from memcram.recipes.strategies import Decision, Measurement, Outcome, Stop, Strategy

# Two successive lengths at which no text is exact end the grid.
EMPTY_LENGTHS = 2


@dataclass(frozen=True)
class Budgeted:
    """Another strategy, stopped at the first measurement with the budget spent.

    Attributes:
        strategy: that decides until then.
        token_steps: the budget of a text.
    """

    strategy: Strategy
    token_steps: int

    @property
    def keeps_prefix(self) -> bool:
        """As the inner strategy."""
        return self.strategy.keeps_prefix

    @property
    def held_margin(self) -> float:
        """As the inner strategy."""
        return self.strategy.held_margin

    @property
    def lookahead(self) -> int:
        """As the inner strategy."""
        return self.strategy.lookahead

    @property
    def every_step(self) -> bool:
        """Always: otherwise a text would go on behind the end of its budget."""
        return True

    def first_target(self, text_tokens: int) -> int:
        """As the inner strategy."""
        return self.strategy.first_target(text_tokens)

    def decide(self, measured: Measurement) -> Decision:
        """What the inner strategy decides, unless the budget is spent."""
        decision = self.strategy.decide(measured)
        if isinstance(decision, Stop) or measured.token_steps < self.token_steps:
            return decision
        return Stop(Outcome.BUDGET_EXHAUSTED)

    def with_steps(self, steps: int) -> "Budgeted":
        """The inner strategy with another budget in optimiser steps."""
        return Budgeted(self.strategy.with_steps(steps), self.token_steps)

    def with_margin(self, at_least: float) -> "Budgeted":
        """The inner strategy, content only with margins above `at_least` logits."""
        return Budgeted(self.strategy.with_margin(at_least), self.token_steps)


def steps_within(budget: int, vectors: int, prefix: int, n_tokens: int) -> int:
    """Optimiser steps that `budget` token-steps pay for at a fixed length, at least one.

    The measurement behind the last step goes forward only and is not paid for; a growing recipe
    gets the same one on top.
    """
    return max(1, budget // Accounting(vectors, prefix, n_tokens).input_length)


def default_grid() -> Iterator[int]:
    """4, 6, … 16, 20, … 64, 72, … 128, 144, …: without an end."""
    yield from range(4, 16, 2)
    yield from range(16, 64, 4)
    yield from range(64, 128, 8)
    yield from itertools.count(128, 16)


def parse_grid(text: str) -> tuple[int, ...]:
    """Rising lengths from `4,6,8`.

    Raises:
        UsageError: no whole numbers, none, or not rising.
    """
    try:
        grid = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--grid: got {text!r}, allowed: lengths such as 4,6,8") from error
    if grid[0] < 1 or any(a >= b for a, b in itertools.pairwise(grid)):
        raise UsageError(f"--grid: got {text!r}, allowed: rising lengths from 1 on")
    return grid


def grid_up_to(longest: int, grid: tuple[int, ...] | None = None) -> list[int]:
    """The lengths a text may have, of the given grid or the default one."""
    lengths = grid if grid is not None else default_grid()
    return list(itertools.takewhile(lambda length: length <= longest, lengths))


def is_over(exact_by_length: list[int]) -> bool:
    """Whether the last lengths of the grid had no exact text, so that no longer one is tried."""
    last = exact_by_length[-EMPTY_LENGTHS:]
    return len(last) == EMPTY_LENGTHS and not any(last)
