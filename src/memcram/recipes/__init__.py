"""Recipes: how a text is crammed."""

from memcram.recipes.catalogue import RECIPES, get_recipe
from memcram.recipes.recipe import Recipe

__all__ = ["RECIPES", "Recipe", "get_recipe"]
