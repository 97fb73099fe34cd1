"""Limit any strategy to a budget in token-steps."""

from dataclasses import replace

from memcram.recipes.component import component
from memcram.recipes.ranges import AtLeastOne
from memcram.recipes.strategies.base import Decision, Measurement, Outcome, Stop, Strategy


@component
class TokenBudget:
    """Decides as `strategy` does, but stops a text once its token-steps reach the budget.

    A text stops at the first measurement that reaches the budget, so it exceeds it by at most one
    forward pass. `strategy` decides everything else, such as the patience.

    Attributes:
        strategy: decides until the budget is spent.
        token_steps: budget per text, in positions that went forward and backward.
    """

    strategy: Strategy
    token_steps: AtLeastOne

    every_step = True  # between two measurements a text could pass the end of its budget

    @property
    def steps(self) -> int:
        """Budget of the inner strategy, in optimiser steps."""
        return self.strategy.steps

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

    def first_target(self, text_tokens: int) -> int:
        """As the inner strategy."""
        return self.strategy.first_target(text_tokens)

    def decide(self, measured: Measurement) -> Decision:
        """Stop where the budget is spent; otherwise as the inner strategy decides."""
        decision = self.strategy.decide(measured)
        if isinstance(decision, Stop) or measured.token_steps < self.token_steps:
            return decision
        whole = measured.max_held >= measured.text_tokens
        return Stop(Outcome.CORRECT if whole else Outcome.BUDGET_EXHAUSTED)

    def is_spent(self, steps: int, token_steps: int) -> bool:
        """Whether a text that took this many token-steps has used up its budget."""
        return token_steps >= self.token_steps or self.strategy.is_spent(steps, token_steps)

    def with_steps(self, steps: int) -> "TokenBudget":
        """The same, with another budget of the inner strategy in optimiser steps."""
        return replace(self, strategy=self.strategy.with_steps(steps))

    def with_margin(self, at_least: float) -> "TokenBudget":
        """The same, which accepts only margins above `at_least` logits."""
        return replace(self, strategy=self.strategy.with_margin(at_least))
