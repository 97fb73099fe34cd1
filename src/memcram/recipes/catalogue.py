"""The named recipes, and their variants."""

import dataclasses

from memcram.errors import UsageError
from memcram.recipes.initialisers import NormalStart, UniformStart
from memcram.recipes.objectives.cross_entropy import CrossEntropy
from memcram.recipes.objectives.smooth_margin import SmoothMargin
from memcram.recipes.optimisers.adamw import AdamW
from memcram.recipes.optimisers.averaged_adamw import AveragedAdamW
from memcram.recipes.overrides import parse_overrides, variant
from memcram.recipes.parametrisations import Direct, Direction, LowDim
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies.fixed import Fixed
from memcram.recipes.strategies.horizon import Horizon
from memcram.recipes.strategies.progressive import Progressive

_KURATOV = Recipe(
    name="kuratov2025",
    source="Kuratov et al., ACL 2025, arXiv 2502.13063. The most accurate vectors are kept as "
    "measured (their code copies them one step later); of equally accurate ones, those with the "
    "largest minimum margin.",
    objective=CrossEntropy(),
    optimiser=AdamW(lr=0.01, betas=(0.9, 0.9), weight_decay=0.01),
    start=NormalStart(),
    parametrisation=Direct(),
    strategy=Fixed(steps=5000, margin=0.0, patience=2000),
    horizon=None,
    first_token_given=True,
    bos_in_text=True,
    paper_columns=True,
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

_DEFAULT = dataclasses.replace(
    _DIRECT,
    name="default",
    objective=SmoothMargin(tau=0.1),
    optimiser=AveragedAdamW(lr=0.6, betas=(0.0, 0.8)),
    start=UniformStart(0.0, 0.02),
    parametrisation=LowDim(k="auto"),
    horizon=Horizon(steps=1000, patience=200, growth=0.1, lookahead=0, margin=0.02),
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _DEFAULT,
        _DIRECT,
        dataclasses.replace(
            _DEFAULT,
            name="low-dim",
            optimiser=AdamW(lr=0.3, betas=(0.8, 0.8), weight_decay=0.0),
            parametrisation=LowDim(),
        ),
        dataclasses.replace(
            _DIRECT,
            name="direction",
            objective=SmoothMargin(tau=0.1),
            optimiser=AdamW(lr=0.1, betas=(0.8, 0.8), decay_steps=1300, final_lr=0.005),
            parametrisation=Direction(),
            strategy=Fixed(steps=1300, margin=0.02),
            horizon=Horizon(steps=1300, patience=300, growth=0.1, lookahead=0, margin=0.02),
        ),
        _KURATOV,
        dataclasses.replace(
            _KURATOV,
            name="kuratov2025+t1",
            source="As kuratov2025, but t₁ is predicted and in the loss.",
            first_token_given=False,
        ),
        _TARASOV,
        dataclasses.replace(
            _TARASOV,
            name="tarasov2026+low-dim",
            source="As tarasov2026, with e = W z + b and k = 256 (32 for Gemma). Each text has its "
            "own W and b, as in the scripts behind the published table, unless `in_group` shares "
            "them.",
            parametrisation=LowDim(k=256),
        ),
    )
}
"""The recipes, by name."""


def get_recipe(name: str) -> Recipe:
    """Look up a recipe by name, or make a variant such as `tarasov2026@lr=0.5`.

    `memcram.recipes.overrides` documents the syntax of variants.

    Raises:
        UsageError: no such recipe or setting, or a value that is not allowed.
    """
    base, at, text = name.strip().partition("@")
    if base not in RECIPES:
        raise UsageError(argument="recipe", got=base, allowed=", ".join(RECIPES))
    if not at:
        return RECIPES[base]
    return variant(RECIPES[base], name.strip(), parse_overrides(name, text))
