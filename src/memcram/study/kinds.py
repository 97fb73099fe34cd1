"""Kinds of study: what is varied, and how long a text is."""

from collections.abc import Callable
from dataclasses import dataclass

from memcram.recipes.recipe import Recipe
from memcram.study import variants
from memcram.study.spec import StudySpec
from memcram.study.variants import Variant


@dataclass(frozen=True)
class Kind:
    """One kind of study.

    Attributes:
        about: what it measures, in a line.
        needs_lengths: each text must say how many tokens it has; otherwise it may, and is as long
            as the model's positions and the capacity bound allow if it does not.
        finds_length: only the prefix that the vectors hold is measured, not the whole text.
        recipe: which of a recipe's strategies runs.
        key: the spec's key that lists what this kind varies; no other kind knows it. None for none.
        variants: the ways in which each text is measured.
        keeps_path: the record of a row has the path of its vectors too. It decides no task.
    """

    about: str
    needs_lengths: bool
    finds_length: bool
    recipe: Callable[[Recipe], Recipe]
    key: str | None = None
    variants: "Callable[[StudySpec], list[Variant]]" = variants.plain
    keeps_path: bool = False


def _as_it_is(recipe: Recipe) -> Recipe:
    return recipe


KINDS: dict[str, Kind] = {
    "capacity": Kind(
        about="texts of given length: how many of their tokens come out right",
        needs_lengths=True,
        finds_length=False,
        recipe=_as_it_is,
    ),
    "horizon": Kind(
        about="as much of each text as fits",
        needs_lengths=False,
        finds_length=True,
        recipe=Recipe.for_horizon,
    ),
    "context": Kind(
        about="[mem] against the bare LM with n tokens of left context, texts of given length",
        needs_lengths=True,
        finds_length=False,
        recipe=_as_it_is,
        key="contexts",
        variants=variants.contexts,
    ),
    "repeat": Kind(
        about="texts of given length, once and twice in a row",
        needs_lengths=True,
        finds_length=False,
        recipe=_as_it_is,
        variants=variants.repeats,
    ),
    "seeds": Kind(
        about="several solutions of each text, and the line between two, for texts of given length",
        needs_lengths=True,
        finds_length=False,
        recipe=_as_it_is,
        key="starts",
        variants=variants.starts,
        keeps_path=True,
    ),
    "depth": Kind(
        about="as much of each text as fits, with the first n layers of the model",
        needs_lengths=False,
        finds_length=True,
        recipe=Recipe.for_horizon,
        key="layers",
    ),
}
