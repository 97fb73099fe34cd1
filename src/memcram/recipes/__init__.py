"""Recipes: named, validated settings for cramming a text."""

from memcram.recipes.catalogue import RECIPES, get_recipe
from memcram.recipes.components import COMPONENTS
from memcram.recipes.recipe import Recipe

__all__ = ["COMPONENTS", "RECIPES", "Recipe", "get_recipe"]
