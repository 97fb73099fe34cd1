"""Find how many tokens fit: grow the prefix while it is held, back off when it stagnates."""

from dataclasses import replace

from memcram.recipes.component import component
from memcram.recipes.ranges import AtLeastOne, Count, NotNegative
from memcram.recipes.strategies.base import Continue, Decision, Measurement, Outcome, Retarget, Stop


@component
class Horizon:
    """Grow the prefix that is held until the budget or the patience is spent.

    As soon as all n tokens of the loss are held, the loss runs over the tokens held (including any
    in the lookahead) plus a fraction `growth` of them, at least one. After `patience` steps without
    another token held, the target is moved halfway back to the tokens held, from the last vectors
    that held them; if the target is only one token more, the strategy stops.

    Attributes:
        steps: budget in optimiser steps.
        patience: steps without another token held before backing off.
        first: tokens of the first target.
        growth: fraction of the held tokens that is added at once; 0 adds one token at a time.
        lookahead: tokens beyond the loss that are measured too.
        margin: a token is held if its margin (logits) exceeds this.
    """

    steps: AtLeastOne = 1000
    patience: AtLeastOne = 250
    first: AtLeastOne = 8
    growth: NotNegative = 0.0
    lookahead: Count = 4
    margin: NotNegative = 0.02

    keeps_prefix = True
    every_step = False

    @property
    def held_margin(self) -> float:
        """A token counts as held if its margin (logits) exceeds this."""
        return self.margin

    def first_target(self, text_tokens: int) -> int:
        """`first` tokens, or all of a shorter text."""
        return min(self.first, text_tokens)

    def decide(self, measured: Measurement) -> Decision:
        """Stop at the end of the text or the budget; grow on success; back off on stagnation."""
        if measured.max_held >= measured.text_tokens:
            return Stop(Outcome.CORRECT)
        if measured.step >= self.steps:
            return Stop(Outcome.BUDGET_EXHAUSTED)
        if measured.n_held >= measured.n_tokens:
            more = max(1, int(self.growth * measured.n_held))
            return Retarget(min(measured.n_held + more, measured.text_tokens))
        if measured.step - measured.max_held_step >= self.patience:
            over = measured.n_tokens - measured.max_held
            if over <= 1:
                return Stop(Outcome.BUDGET_EXHAUSTED)
            return Retarget(measured.max_held + over // 2, restore=True)
        return Continue()

    def is_spent(self, steps: int, token_steps: int) -> bool:
        """Whether a text that took this many steps has used up its budget."""
        return steps >= self.steps

    def with_steps(self, steps: int) -> "Horizon":
        """The same strategy with another budget in optimiser steps."""
        return replace(self, steps=steps)

    def with_margin(self, at_least: float) -> "Horizon":
        """The same strategy, which accepts only margins above `at_least` logits."""
        return replace(self, margin=max(self.margin, at_least))
