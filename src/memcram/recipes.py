"""Named combinations of loss, optimiser, start, parametrisation and strategy."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from memcram.errors import UsageError
from memcram.objective import CrossEntropy, HingeMargin, Objective, SmoothMargin, TextObjective
from memcram.optimisers import AdamW
from memcram.parametrisations import (
    Direct,
    LowDim,
    NormalStart,
    Parametrisation,
    Start,
    UniformStart,
)
from memcram.ranges import AtLeastOne
from memcram.strategies import Fixed, Horizon, Progressive, Strategy
from memcram.variants import parse_overrides, variant


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
    """

    name: str
    source: str
    objective: Objective | TextObjective
    optimiser: AdamW
    start: Start
    parametrisation: Parametrisation
    strategy: Strategy
    horizon: Strategy | None
    first_token_given: bool = False
    bos_in_text: bool = False
    group_size: AtLeastOne | None = None

    def with_steps(self, steps: int) -> "Recipe":
        """The same recipe with another budget in optimiser steps."""
        return dataclasses.replace(
            self,
            optimiser=self.optimiser.with_steps(steps),
            strategy=self.strategy.with_steps(steps),
            horizon=self.horizon and self.horizon.with_steps(steps),
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
            able = [recipe.name for recipe in RECIPES.values() if recipe.horizon]
            raise UsageError(
                f"--recipe: {self.name!r} crams texts of given length and finds none by itself; "
                f"allowed: {', '.join(able)}"
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
                f"--recipe: {self.name!r} never predicts the first token, so that no text comes "
                "back; allowed: one that does, such as kuratov2025+t1"
            )
        alone = self.parametrisation
        if isinstance(alone, LowDim):
            alone = dataclasses.replace(alone, in_group=False)
        return dataclasses.replace(self, parametrisation=alone, bos_in_text=False, group_size=None)

    def settings(self) -> dict[str, Any]:
        """Every setting, as plain JSON values; components carry their class name as `kind`."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _reaching(objective: Objective | TextObjective, at_least: float) -> Objective | TextObjective:
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


_KURATOV = Recipe(
    name="kuratov2025",
    source="Kuratov et al., ACL 2025, arXiv 2502.13063. Kept: the most accurate vectors, of those "
    "the ones with the largest smallest margin, as measured (their code copies them a step later).",
    objective=CrossEntropy(),
    optimiser=AdamW(lr=0.01, betas=(0.9, 0.9), weight_decay=0.01),
    start=NormalStart(),
    parametrisation=Direct(),
    strategy=Fixed(steps=5000, margin=0.0, patience=2000),
    horizon=None,
    first_token_given=True,
    bos_in_text=True,
)

_TARASOV = Recipe(
    name="tarasov2026",
    source="Tarasov et al., ICML 2026 (progressive cramming); learning rate 0.5 for Pythia.",
    objective=CrossEntropy(),
    optimiser=AdamW(
        lr=0.1,
        betas=(0.9, 0.9),
        weight_decay=0.01,
        warmup=100,
        decay_steps=10_000,
        final_lr=1e-3,
    ),
    start=UniformStart(0.0, 0.02),
    parametrisation=Direct(),
    strategy=Progressive(steps=10_000, stage_steps=1000),
    horizon=Progressive(steps=10_000, stage_steps=1000),
    bos_in_text=True,
)

_DIRECT = Recipe(
    name="direct",
    source="memcram; see docs/decisions/004-default-recipe.md",
    objective=SmoothMargin(tau=0.2),
    optimiser=AdamW(lr=1.0, betas=(0.9, 0.9), weight_decay=0.0),
    start=NormalStart(),
    parametrisation=Direct(),
    strategy=Fixed(steps=800, margin=0.02),
    horizon=Horizon(steps=1000, patience=200, margin=0.02),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        dataclasses.replace(
            _DIRECT,
            name="default",
            objective=SmoothMargin(tau=0.1),
            optimiser=AdamW(lr=0.3, betas=(0.8, 0.8), weight_decay=0.0),
            start=UniformStart(0.0, 0.02),
            parametrisation=LowDim(),
            horizon=Horizon(steps=1000, patience=200, growth=0.1, lookahead=0, margin=0.02),
        ),
        _DIRECT,
        _KURATOV,
        dataclasses.replace(
            _KURATOV,
            name="kuratov2025+t1",
            source="As kuratov2025, with t₁ predicted and in the loss.",
            first_token_given=False,
        ),
        _TARASOV,
        dataclasses.replace(
            _TARASOV,
            name="tarasov2026+low-dim",
            source="As tarasov2026, with e = W z + b, k = 256 (Gemma 32), W and b shared by 10 "
            "texts, whose mean loss is minimised; a stage that ends takes its step.",
            parametrisation=LowDim(k=256, in_group=True),
            group_size=10,
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`, or a variant of it such as `tarasov2026@lr=0.5`.

    `memcram.variants` says how a variant is written.

    Raises:
        UsageError: there is none; names those there are; or no such setting.
    """
    base, at, text = name.strip().partition("@")
    if base not in RECIPES:
        raise UsageError(f"--recipe: got {base!r}, allowed: {', '.join(RECIPES)}")
    if not at:
        return RECIPES[base]
    return variant(RECIPES[base], name.strip(), parse_overrides(name, text))
