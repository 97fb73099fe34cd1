"""Table of the kinds of study. To add one, add a row to `KINDS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from memcram.recipes.recipe import Recipe
from memcram.study import conditions
from memcram.study.conditions import Condition
from memcram.study.probe_spec import ProbeSettings, check_spec
from memcram.study.spec import Positives, Spec, StudySpec


@dataclass(frozen=True)
class Kind:
    """One kind of study.

    Attributes:
        finds_length: measure only the prefix that the vectors hold, of a text that may be as long
            as the model's positions and the capacity bound allow. Otherwise the whole text is
            measured, and the spec must give its length.
        recipe: adapts a recipe to this kind: which of its strategies runs.
        key: the spec's key that lists what this kind varies; no other kind accepts it.
        key_type: its type, as pydantic reads it.
        conditions: the ways in which each text is measured, from the value of `key` (None
            without a key). The layers of `depth` are varied by `Spec.loads` instead.
        needs_key: whether the spec must give that key; otherwise it has a default.
        keeps_path: also store the path of the vectors. It is not part of a task's hash.
        probes: also probe what the vectors mean to the model (`study/probe.py`).
        check: checks what this kind requires of other keys, and raises a `UsageError`.
    """

    finds_length: bool
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe
    key: str | None = None
    key_type: Any = None
    conditions: Callable[[Any], list[Condition]] = conditions.baseline
    needs_key: bool = True
    keeps_path: bool = False
    probes: bool = False
    check: Callable[[Spec], None] = lambda _: None

    def conditions_of(self, study: StudySpec) -> list[Condition]:
        """The ways in which each text of a study of this kind is measured."""
        return self.conditions(study.of_kind(self.key))


KINDS: dict[str, Kind] = {
    # Texts of given length: how many of their tokens are correct.
    "capacity": Kind(finds_length=False),
    # As much of each text as fits.
    "horizon": Kind(finds_length=True, recipe=Recipe.for_horizon),
    # [mem] against the bare LM with n tokens of left context, texts of given length.
    "context": Kind(
        finds_length=False, key="contexts", key_type=Positives, conditions=conditions.contexts
    ),
    # Texts of given length, once and twice in a row.
    "repeat": Kind(finds_length=False, conditions=conditions.repeats),
    # Several solutions per text, and the line between two, for texts of given length.
    "seeds": Kind(
        finds_length=False,
        key="starts",
        key_type=Annotated[int, Field(ge=2, le=1000)],
        conditions=conditions.starts,
        keeps_path=True,
    ),
    # As much of each text as fits, into vectors and into a prefix of keys and values.
    "prefix": Kind(
        finds_length=True,
        recipe=Recipe.for_horizon,
        key="prefix_recipes",
        key_type=Annotated[list[str], Field(min_length=1)],
        conditions=conditions.prefixes,
    ),
    # As much of each text as fits, with the first n layers of the model.
    "depth": Kind(finds_length=True, recipe=Recipe.for_horizon, key="layers", key_type=Positives),
    # What a passage's vectors say about its continuation, and where the model attends to them.
    "probe": Kind(
        finds_length=True,
        recipe=Recipe.for_horizon,
        key="probe",
        key_type=ProbeSettings,
        needs_key=False,
        probes=True,
        check=check_spec,
    ),
}
