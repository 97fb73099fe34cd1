"""Recipes with other margins, and for texts that share nothing."""

import pytest
import torch

from memcram.archive.corrections import GUARD_MARGINS
from memcram.errors import UsageError
from memcram.recipes.catalogue import RECIPES, get_recipe
from memcram.recipes.components import COMPONENTS
from memcram.recipes.objectives.base import TokenScores


def slope_at(objective, margin):
    """−d loss / d margin of one token with that margin."""
    logits = torch.tensor([[margin, 0.0, -9.0]], dtype=torch.float64, requires_grad=True)
    scores: TokenScores = objective(logits, torch.tensor([0]))
    return -torch.autograd.grad(scores.loss.sum(), logits)[0][0, 0].item()


@pytest.mark.parametrize("margin", [0.02, 0.5, 2.0])
@pytest.mark.parametrize(
    "name",
    ["default", "direct", *(f"default@objective={c.__name__}" for c in COMPONENTS["objective"])],
)
def test_a_requested_margin_still_has_a_gradient(name, margin):
    recipe = get_recipe(name).with_margin(margin)
    assert recipe.strategy.margin >= margin
    assert recipe.horizon.margin >= margin
    # At twice τ a smooth margin loss has 1 / (1 + e²) = 0.12 of its slope.
    assert slope_at(recipe.objective, recipe.strategy.margin) > 0.11


@pytest.mark.parametrize("name", RECIPES)
def test_the_margin_of_portable_archives_changes_no_loss(name):
    recipe = get_recipe(name)
    portable = recipe.with_margin(2 * GUARD_MARGINS[torch.float32])
    assert portable.objective == recipe.objective


def test_a_loss_without_a_width_stays_what_it_is():
    assert (
        get_recipe("kuratov2025+t1").with_margin(2.0).objective
        == get_recipe("kuratov2025+t1").objective
    )


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"kuratov2025"}))
def test_a_single_text_shares_nothing(name):
    alone = get_recipe(name).for_one_text()
    assert not alone.parametrisation.shared
    assert (alone.group_size, alone.bos_in_text) == (None, False)
    assert alone.for_one_text() == alone


def test_a_recipe_that_is_given_the_first_token_is_refused():
    with pytest.raises(UsageError, match=r"'kuratov2025' never predicts the first token"):
        get_recipe("kuratov2025").for_one_text()
