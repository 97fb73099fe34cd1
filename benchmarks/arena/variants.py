"""Entries of the arena: recipes and their variants, which grow or run at each length of a grid.

default                              a recipe by name
tarasov2026@lr=0.3                   one setting changed (memcram.recipes.overrides)
default@lengths=grid                 at each length of the grid instead of growing
default@starts=4                     four starts, each with a quarter of the budget; the best counts
"""

import json
from dataclasses import dataclass
from pathlib import Path

from memcram.errors import UsageError
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.overrides import parse_overrides, variant
from memcram.recipes.recipe import Recipe

GROWN, GRID = "grown", "grid"
BASELINE = "kuratov2025+t1"


@dataclass(frozen=True)
class Entry:
    """A recipe in the arena.

    Attributes:
        recipe: with its overrides, named by the whole line.
        grows: it finds the horizon of a text by itself; otherwise it runs at each length of the
            grid.
        starts: of each text; they share the budget, and the one that holds most counts.
    """

    recipe: Recipe
    grows: bool
    starts: int = 1

    @property
    def name(self) -> str:
        """The line it was made from."""
        return self.recipe.name

    @property
    def base(self) -> str:
        """The recipe's own name, without overrides."""
        return self.name.partition("@")[0]


def parse_entry(line: str) -> Entry:
    """The entry that a line of text names.

    Raises:
        UsageError: no such recipe, field or class, a value of another type, or a recipe that is
            given t₁.
    """
    name, at, text = line.strip().partition("@")
    overrides = parse_overrides(line, text) if at else {}
    lengths = overrides.pop("lengths", None)
    if lengths not in (None, GROWN, GRID):
        raise UsageError(f"{line!r}: lengths: got {lengths!r}, allowed: {GROWN!r}, {GRID!r}")
    starts = overrides.pop("starts", 1)
    if not isinstance(starts, int) or isinstance(starts, bool) or starts < 1:
        raise UsageError(f"{line!r}: starts: got {starts!r}, allowed: 1 or more")
    recipe = variant(get_recipe(name), line.strip(), overrides)
    if recipe.first_token_given:
        raise UsageError(
            f"--recipe: {line.strip()!r} is given t₁, and every recipe of the arena predicts it; "
            f"use {BASELINE!r}"
        )
    can_grow = recipe.horizon is not None and recipe.horizon.keeps_prefix
    if lengths == GROWN and not can_grow:
        raise UsageError(f"{line!r}: lengths: got {GROWN!r}, but its `horizon` keeps no prefix")
    grows = can_grow and lengths != GRID
    if starts > 1 and not grows:
        raise UsageError(f"{line!r}: starts: got {starts}, but the recipe does not grow")
    return Entry(recipe, grows, starts)


def read_entries(path: Path) -> list[str]:
    """The lines of a sweep: one variant each; blank lines and those that begin with # are left out.

    Raises:
        UsageError: the file can't be read, or names none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"--recipes-file: {str(path)!r}: {error.strerror}") from error
    found = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not found:
        raise UsageError(f"--recipes-file: {str(path)!r} names no recipe")
    return found


def with_override(line: str, key: str, value: object) -> str:
    """The line with one override more, after those it has."""
    name, at, rest = line.strip().partition("@")
    if rest.startswith("{"):
        return f"{name}@{json.dumps({**json.loads(rest), key: value})}"
    return f"{name}@{rest},{key}={json.dumps(value)}" if at else f"{name}@{key}={json.dumps(value)}"
