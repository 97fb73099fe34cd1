"""Optimise all tokens of the text from the first step to the last."""

from dataclasses import replace

from memcram.recipes.component import component
from memcram.recipes.ranges import AtLeastOne, NotNegative
from memcram.recipes.strategies.base import Continue, Decision, Measurement, Outcome, Stop


@component
class Fixed:
    """Optimise the whole text until it is correct, the budget is spent, or nothing improves.

    Attributes:
        steps: budget in optimiser steps.
        margin: stop once every margin exceeds this many logits; above 0, a correct text is
            optimised further within the budget.
        patience: stop after this many steps without another correct token; None for no limit.
    """

    steps: AtLeastOne = 1000
    margin: NotNegative = 0.0
    patience: AtLeastOne | None = None

    keeps_prefix = False
    held_margin = 0.0
    lookahead = 0
    every_step = False

    def first_target(self, text_tokens: int) -> int:
        """All tokens."""
        return text_tokens

    def decide(self, measured: Measurement) -> Decision:
        """Stop on success, on exhaustion or on stagnation."""
        if measured.n_held == measured.n_tokens and measured.min_margin > self.margin:
            return Stop(Outcome.CORRECT)
        idle = measured.step - measured.max_held_step
        if measured.step >= self.steps or (self.patience is not None and idle >= self.patience):
            whole = measured.max_held == measured.n_tokens
            return Stop(Outcome.CORRECT if whole else Outcome.BUDGET_EXHAUSTED)
        return Continue()

    def is_spent(self, steps: int, token_steps: int) -> bool:
        """Whether a text that took this many steps has used up its budget."""
        return steps >= self.steps

    def with_steps(self, steps: int) -> "Fixed":
        """The same strategy with another budget in optimiser steps."""
        return replace(self, steps=steps)

    def with_margin(self, at_least: float) -> "Fixed":
        """The same strategy, which accepts only margins above `at_least` logits."""
        return replace(self, margin=max(self.margin, at_least))
