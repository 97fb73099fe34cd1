"""A recipe: all settings for cramming a text."""

import dataclasses
from typing import Any

from memcram.errors import UsageError
from memcram.recipes.component import component
from memcram.recipes.initialisers import Initialiser
from memcram.recipes.objectives.base import Objective
from memcram.recipes.optimisers.base import Optimiser
from memcram.recipes.parametrisations import Parametrisation
from memcram.recipes.ranges import AtLeastOne
from memcram.recipes.strategies.base import Strategy
from memcram.recipes.strategies.token_budget import TokenBudget


@component
class Recipe:
    """Named combination of objective, optimiser, initialiser, parametrisation and strategy.

    Attributes:
        name: as the command line and archives show it.
        source: the publication or document that describes it.
        objective: loss per token.
        optimiser: update rule.
        start: initialiser of the trained values.
        parametrisation: which parameters are trained.
        strategy: when to stop, with the budget, for a text of given length.
        horizon: the strategy that finds the length; None if the recipe cannot find one.
        first_token_given: t₁ is never predicted (only for parity with `kuratov2025`).
        bos_in_text: a BOS that the tokenizer adds belongs to the text, and counts as t₁.
        group_size: texts that are optimised together, where the parametrisation shares parameters.
        paper_columns: rows of a study also have measures as in the code of Kuratov et al. Not one
            of the settings, because it changes no vector.
    """

    name: str
    source: str
    objective: Objective
    optimiser: Optimiser
    start: Initialiser
    parametrisation: Parametrisation
    strategy: Strategy
    horizon: Strategy | None
    first_token_given: bool = False
    bos_in_text: bool = False
    group_size: AtLeastOne | None = None
    paper_columns: bool = False

    def with_steps(self, steps: int) -> "Recipe":
        """Return the same recipe with a budget of `steps` optimiser steps.

        Raises:
            UsageError: `steps` is out of range.
        """
        return dataclasses.replace(
            self,
            strategy=self.strategy.with_steps(steps),
            horizon=self.horizon and self.horizon.with_steps(steps),
            optimiser=self.optimiser.with_steps(steps),
        )

    def with_token_steps(self, token_steps: int) -> "Recipe":
        """Return the same recipe with a budget in token-steps per text instead of steps.

        Patience and learning-rate schedule do not change.

        Raises:
            UsageError: `token_steps` is out of range.
        """

        def limited(strategy: Strategy) -> Strategy:
            # No text takes more steps than token-steps, so only the latter end it.
            return TokenBudget(strategy, token_steps).with_steps(token_steps)

        return dataclasses.replace(
            self,
            strategy=limited(self.strategy),
            horizon=self.horizon and limited(self.horizon),
        )

    def with_margin(self, at_least: float) -> "Recipe":
        """Return the same recipe, optimising until all margins exceed `at_least` logits."""
        return dataclasses.replace(
            self,
            objective=self.objective.with_margin(at_least),
            strategy=self.strategy.with_margin(at_least),
            horizon=self.horizon and self.horizon.with_margin(at_least),
        )

    def for_horizon(self) -> "Recipe":
        """Return the same recipe with the strategy that finds the length.

        Raises:
            UsageError: it only crams texts of given length.
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
        """Return the same recipe without shared parameters and without BOS in the text.

        Raises:
            UsageError: it never predicts the first token, so no text can be decoded.
        """
        if self.first_token_given:
            raise UsageError(
                f"{self.name!r} never predicts the first token, so the text cannot be decoded",
                argument="recipe",
                got=self.name,
                allowed="a recipe that predicts it, such as kuratov2025+t1",
            )
        return dataclasses.replace(
            self,
            parametrisation=self.parametrisation.for_one_text(),
            bos_in_text=False,
            group_size=None,
        )

    def settings(self) -> dict[str, Any]:
        """Return all settings as plain JSON values; components have their class name as `kind`."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "paper_columns"
        }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {"kind": type(value).__name__, **fields}
