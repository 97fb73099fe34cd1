"""Kinds of study: what is varied, and how long a text is."""

from collections.abc import Callable
from dataclasses import dataclass

from memcram.recipes import Recipe


@dataclass(frozen=True)
class Kind:
    """One kind of study.

    Attributes:
        about: what it measures, in a line.
        needs_lengths: each text must say how many tokens it has; otherwise it may, and is as long
            as the model's positions and the capacity bound allow if it does not.
        finds_length: only the prefix that the vectors hold is measured, not the whole text.
        recipe: which of a recipe's strategies runs.
    """

    about: str
    needs_lengths: bool
    finds_length: bool
    recipe: Callable[[Recipe], Recipe]


KINDS: dict[str, Kind] = {
    "capacity": Kind(
        about="texts of given length: how many of their tokens come out right",
        needs_lengths=True,
        finds_length=False,
        recipe=lambda recipe: recipe,
    ),
    "horizon": Kind(
        about="as much of each text as fits",
        needs_lengths=False,
        finds_length=True,
        recipe=Recipe.for_horizon,
    ),
}
