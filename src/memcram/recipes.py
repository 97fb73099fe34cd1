"""Named combinations of loss, optimiser, start, parametrisation and strategy."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from memcram.errors import UsageError
from memcram.objective import Objective, SmoothMargin
from memcram.optimisers import AdamW
from memcram.parametrisations import Direct, NormalStart, Parametrisation, Start
from memcram.strategies import Fixed, Horizon, Strategy


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
        horizon: the same where the length is to be found.
        first_token_given: t₁ is never predicted (for parity with `kuratov2025` only).
    """

    name: str
    source: str
    objective: Objective
    optimiser: AdamW
    start: Start
    parametrisation: Parametrisation
    strategy: Strategy
    first_token_given: bool = False
    horizon: Horizon = field(default_factory=Horizon)

    def with_steps(self, steps: int) -> "Recipe":
        """The same recipe with another budget in optimiser steps."""
        return dataclasses.replace(
            self,
            strategy=self.strategy.with_steps(steps),
            horizon=self.horizon.with_steps(steps),
        )

    def with_margin(self, at_least: float) -> "Recipe":
        """The same recipe, polishing until margins exceed `at_least` logits."""
        return dataclasses.replace(
            self,
            strategy=self.strategy.with_margin(at_least),
            horizon=self.horizon.with_margin(at_least),
        )

    def settings(self) -> dict[str, Any]:
        """Every setting, as plain JSON values; components carry their class name as `kind`."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {"kind": type(value).__name__, **fields}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="default",
            source="memcram; see docs/decisions/004-default-recipe.md",
            objective=SmoothMargin(tau=0.2),
            optimiser=AdamW(lr=1.0, betas=(0.9, 0.9), weight_decay=0.0),
            start=NormalStart(),
            parametrisation=Direct(),
            strategy=Fixed(steps=800, margin=0.02),
            horizon=Horizon(steps=1000, patience=200, margin=0.02),
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        UsageError: there is none; names those there are.
    """
    if name not in RECIPES:
        raise UsageError(f"--recipe: got {name!r}, allowed: {', '.join(RECIPES)}")
    return RECIPES[name]
