"""Grow by one token at a time, as in the second published recipe."""

from dataclasses import replace

from memcram.recipes.component import component
from memcram.recipes.ranges import AtLeastOne
from memcram.recipes.strategies.base import Continue, Decision, Measurement, Outcome, Retarget, Stop


@component
class Progressive:
    """Stages n = 1, 2, 3, …; stage n ends when the first n tokens are correct.

    The next stage begins with the same vectors and optimiser state. When a stage exceeds
    `stage_steps` or the text exceeds `steps`, the last completed stage counts. Source: Tarasov et
    al., ICML 2026.

    Attributes:
        steps: budget of a text, in optimiser steps.
        stage_steps: budget of a stage.
    """

    steps: AtLeastOne = 10_000
    stage_steps: AtLeastOne = 1000

    keeps_prefix = True
    held_margin = 0.0
    lookahead = 0
    every_step = True

    def first_target(self, text_tokens: int) -> int:
        """One token."""
        return 1

    def decide(self, measured: Measurement) -> Decision:
        """Next stage on success, stop at the end of the text or of a budget."""
        if measured.n_held >= measured.n_tokens:
            if measured.n_tokens >= measured.text_tokens:
                return Stop(Outcome.CORRECT)
            return Retarget(measured.n_tokens + 1, step=False)
        # Stage n begins when n − 1 tokens are held for the first time.
        in_stage = measured.step - measured.max_held_step
        if measured.step >= self.steps or in_stage >= self.stage_steps:
            return Stop(Outcome.BUDGET_EXHAUSTED)
        return Continue()

    def is_spent(self, steps: int, token_steps: int) -> bool:
        """Whether a text that took this many steps has used up its budget."""
        return steps >= self.steps

    def with_steps(self, steps: int) -> "Progressive":
        """The same strategy with another budget in optimiser steps."""
        return replace(self, steps=steps)

    def with_margin(self, at_least: float) -> "Progressive":
        """The same strategy: it has no margin; archives guard tokens with small margins."""
        return self
