"""Components and recipes refuse wrong values on construction, whoever constructs them."""

import dataclasses
import pickle

import pytest

from memcram.errors import UsageError
from memcram.recipes.catalogue import RECIPES, get_recipe
from memcram.recipes.components import COMPONENTS
from memcram.recipes.objectives.hinge_margin import HingeMargin
from memcram.recipes.objectives.smooth_margin import SmoothMargin
from memcram.recipes.optimisers.adamw import AdamW
from memcram.recipes.strategies.fixed import Fixed

CLASSES = sorted(
    {kind for kinds in COMPONENTS.values() for kind in kinds}, key=lambda c: c.__name__
)


@pytest.mark.parametrize(
    ("make", "argument", "got", "allowed"),
    [
        (lambda: SmoothMargin(tau=-1), "tau", -1, "greater than 0"),
        (lambda: SmoothMargin(-1), "tau", -1, "greater than 0"),
        (lambda: SmoothMargin(tau="wide"), "tau", "wide", "a valid number"),
        (lambda: HingeMargin(0.5, 0), "power", 0, "greater than or equal to 1"),
        (lambda: AdamW(betas=(0.9, 1.0)), "betas", (0.9, 1.0), "less than 1"),
        (lambda: AdamW(lr=float("inf")), "lr", float("inf"), "a finite number"),
        (lambda: Fixed(steps=True), "steps", True, "a valid integer"),
        (lambda: get_recipe("tarasov2026").with_steps(0), "steps", 0, "greater than or equal to 1"),
        (
            lambda: dataclasses.replace(RECIPES["default"], optimiser=None),
            "optimiser",
            None,
            "an instance of Optimiser",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_name(make, argument, got, allowed):
    with pytest.raises(UsageError) as caught:
        make()
    error = caught.value
    assert (error.argument, error.got, error.allowed) == (argument, got, allowed)
    assert str(error) == f"{argument}: got {got!r}, allowed: {allowed}"


def test_from_text_as_from_python():
    with pytest.raises(UsageError) as caught:
        get_recipe("default@tau=-1")
    assert caught.value.argument == "recipe"
    assert caught.value.message(None) == "'default@tau=-1': tau: got -1, allowed: greater than 0"


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="width"):
        SmoothMargin(width=1)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_component_is_a_frozen_dataclass(kind):
    one = kind()
    assert dataclasses.replace(one) == one == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(kind())
    for field in dataclasses.fields(one):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, field.name, None)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_pickling(name):
    assert pickle.loads(pickle.dumps(RECIPES[name])) == RECIPES[name]
