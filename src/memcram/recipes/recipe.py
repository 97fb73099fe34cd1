"""Named combinations of loss, optimiser, start, parametrisation and strategy."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from memcram.errors import UsageError
from memcram.recipes.initialisers import Start
from memcram.recipes.objectives import HingeMargin, Objective, SmoothMargin
from memcram.recipes.optimisers import AdamW
from memcram.recipes.parametrisations import LowDim, Parametrisation
from memcram.recipes.ranges import AtLeastOne
from memcram.recipes.strategies import Strategy, TokenBudget


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a text is crammed.

    Attributes:
        name: how the command line and the archives call it.
        source: where it comes from.
        objective: loss per token.
        optimiser: per-slot update.
        start: where `[mem]` begins.
        parametrisation: what is optimised.
        strategy: when to stop, with the budget, for a text of given length.
        horizon: the same where the length is to be found; None if the recipe knows no such thing.
        first_token_given: t₁ is never predicted (for parity with `kuratov2025` only).
        bos_in_text: where the tokenizer adds a BOS it belongs to the text, and counts as t₁.
        group_size: texts that are optimised together, where the parametrisation shares parameters.
        paper_columns: rows of a study also count as the code of Kuratov et al. does. Not one of
            the settings, since it changes no vector.
    """

    name: str
    source: str
    objective: Objective
    optimiser: AdamW
    start: Start
    parametrisation: Parametrisation
    strategy: Strategy
    horizon: Strategy | None
    first_token_given: bool = False
    bos_in_text: bool = False
    group_size: AtLeastOne | None = None
    paper_columns: bool = False

    def with_steps(self, steps: int) -> "Recipe":
        """The same recipe with another budget in optimiser steps."""
        return dataclasses.replace(
            self,
            optimiser=self.optimiser.with_steps(steps),
            strategy=self.strategy.with_steps(steps),
            horizon=self.horizon and self.horizon.with_steps(steps),
        )

    def with_token_steps(self, token_steps: int) -> "Recipe":
        """The same recipe with a budget in token-steps per text instead of one in steps.

        Patience and learning-rate schedule stay as they are.
        """
        return dataclasses.replace(
            self,
            # No text takes more steps than token-steps, so that only the latter end it.
            strategy=TokenBudget(self.strategy.with_steps(token_steps), token_steps),
            horizon=self.horizon and TokenBudget(self.horizon.with_steps(token_steps), token_steps),
        )

    def with_margin(self, at_least: float) -> "Recipe":
        """The same recipe, polishing until margins exceed `at_least` logits.

        A margin loss is made wide enough to have a gradient there: a smooth one with τ of half the
        margin holds four times the tokens of τ = 0.1 at 2 logits (docs/findings.md).
        """
        return dataclasses.replace(
            self,
            objective=_reaching(self.objective, at_least),
            strategy=self.strategy.with_margin(at_least),
            horizon=self.horizon and self.horizon.with_margin(at_least),
        )

    def for_horizon(self) -> "Recipe":
        """The same recipe, finding the length by itself.

        Raises:
            UsageError: it crams texts of given length only.
        """
        if self.horizon is None:
            raise UsageError(
                f"{self.name!r} crams texts of given length and cannot find the length by itself",
                argument="recipe",
                got=self.name,
                allowed="a recipe with a horizon, such as default",
            )
        return dataclasses.replace(self, strategy=self.horizon)

    def for_one_text(self) -> "Recipe":
        """The same recipe for texts that share nothing, whose first token is theirs.

        Groups, and a BOS in the text, are off, and the settings say so.

        Raises:
            UsageError: it never predicts the first token, so that no text comes back.
        """
        if self.first_token_given:
            raise UsageError(
                f"{self.name!r} never predicts the first token, so the text cannot be decoded",
                argument="recipe",
                got=self.name,
                allowed="a recipe that predicts it, such as kuratov2025+t1",
            )
        alone = self.parametrisation
        if isinstance(alone, LowDim):
            alone = dataclasses.replace(alone, in_group=False)
        return dataclasses.replace(self, parametrisation=alone, bos_in_text=False, group_size=None)

    def settings(self) -> dict[str, Any]:
        """Every setting, as plain JSON values; components carry their class name as `kind`."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "paper_columns"
        }


def _reaching(objective: Objective, at_least: float) -> Objective:
    """The loss, with a gradient left where margins are about `at_least` logits."""
    match objective:
        case SmoothMargin(tau):
            return SmoothMargin(max(tau, at_least / 2))
        case HingeMargin(tau, power):
            return HingeMargin(max(tau, 2 * at_least), power)
        case _:
            return objective


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {"kind": type(value).__name__, **fields}
