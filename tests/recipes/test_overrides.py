"""Variants: values are validated, and what is allowed is named."""

import collections
import dataclasses
import json

import pytest

from memcram.errors import UsageError
from memcram.recipes.catalogue import RECIPES, get_recipe
from memcram.recipes.components import COMPONENTS
from memcram.recipes.overrides import variant

OBJECTIVES = ", ".join(kind.__name__ for kind in COMPONENTS["objective"])


def _flat(settings, above=""):
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif name not in ("kind", "name", "source"):
            yield f"{above}{name}", value


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_that_a_recipe_has_is_allowed(name):
    recipe = RECIPES[name]
    changes = dict(_flat(recipe.settings()))
    assert variant(recipe, name, changes) == recipe
    components = {key: value for key, value in recipe.settings().items() if isinstance(value, dict)}
    assert variant(recipe, name, components) == recipe


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("lr=NaN", "lr: got NaN, allowed: "),
        ("lr=Infinity", "finite"),
        ("lr=-1", "greater than 0"),
        (f"lr={'9' * 400}", "lr: got 999"),
        ("lr=true", "valid number"),
        ("tau=0", "greater than 0"),
        ("betas=[2,2]", "less than 1"),
        ("betas=[0.9]", "betas: got [0.9], allowed: "),
        ('betas=["a","b"]', "valid number"),
        ("betas=0.9", "tuple"),
        ("k=0", "greater than or equal to 1"),
        ("k=1.5", "valid integer"),
        ("k=true", "valid integer"),
        ("k=LowDim", "valid integer or 'auto'"),
        ("k=1000000000000", "less than or equal to 65536"),
        ("strategy.steps=0", "greater than or equal to 1"),
        (f"strategy.steps={10**30}", "less than or equal to"),
        ("strategy.margin=null", "valid number"),
        ("horizon.patience=-1", "greater than or equal to 1"),
        ("horizon.patience=null", "valid integer"),
        ("start.low=Infinity", "finite"),
        ("group_size=0", "greater than or equal to 1"),
        ("bos_in_text=null", "valid boolean"),
        ("objective=null", OBJECTIVES),
        ("objective=AdamW", OBJECTIVES),
        ("horizon=Fixed", "allowed: Horizon, Progressive"),
        ("strategy=Direct", "Fixed, Horizon, Progressive"),
        ('{"objective": {"kind": ["a"]}}', OBJECTIVES),
        (f"k={'[' * 100_000}", "valid integer"),
    ],
)
def test_a_value_out_of_range_is_refused_and_what_is_allowed_is_named(change, says):
    with pytest.raises(UsageError) as caught:
        get_recipe(f"default@{change}")
    assert says in str(caught.value)


def test_settings_without_a_class_need_something_to_change():
    with pytest.raises(UsageError, match="allowed: Horizon, Progressive"):
        get_recipe('kuratov2025@{"horizon": {"steps": 3}}')
    made = get_recipe('kuratov2025@{"horizon": {"kind": "Horizon", "steps": 3}}')
    assert made.horizon.steps == 3


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("tarasov2026@temperature=0.25,lr=1", "tarasov2026@objective=ColdCrossEntropy,T=0.25,lr=1"),
        ("tarasov2026+low-dim@objective.temperature=0.5", "tarasov2026+low-dim@T=0.5"),
        (
            'tarasov2026@{"objective": {"kind": "ColdCrossEntropy", "temperature": 0.5}}',
            "tarasov2026@T=0.5",
        ),
        ("tarasov2026@power=2", "tarasov2026@objective=HingeMargin,power=2"),
        ("direct@k=32", "direct@parametrisation=LowDim,k=32"),
        ("direct@parametrisation.in_group=true", "direct@parametrisation=LowDim,in_group=true"),
        ("default@scale=2.0,lr=0.1", "default@start=NormalStart,scale=2.0,lr=0.1"),
        ("kuratov2025@horizon.growth=0.2", "kuratov2025@horizon=Horizon,horizon.growth=0.2"),
        ('direct@{"k": 32}', "direct@k=32"),
    ],
)
def test_a_setting_that_one_class_has_selects_that_class(line, same):
    assert get_recipe(line).settings() == get_recipe(same).settings() | {"name": line}


def test_a_setting_that_several_classes_have_selects_none_of_them():
    with pytest.raises(UsageError, match="objective=HingeMargin or objective=SmoothMargin"):
        get_recipe("tarasov2026@tau=0.1")
    with pytest.raises(UsageError, match="strategy=Horizon or horizon=Horizon"):
        get_recipe("kuratov2025@growth=0.1")


def _only_settings():
    """Recipe field, class and setting, for each setting that no other class has."""
    everywhere = [
        (field, kind, setting.name)
        for field, kinds in COMPONENTS.items()
        for kind in kinds
        for setting in dataclasses.fields(kind)
    ]
    names = collections.Counter(setting for _, _, setting in everywhere)
    return [row for row in everywhere if names[row[2]] == 1]


@pytest.mark.parametrize(
    ("field", "kind", "setting"),
    [pytest.param(*row, id=f"{row[1].__name__}-{row[2]}") for row in _only_settings()],
)
def test_every_setting_of_one_class_selects_it(field, kind, setting):
    other = next(one for one in COMPONENTS[field] if one is not kind or len(COMPONENTS[field]) == 1)
    value = json.dumps(getattr(kind(), setting))
    recipe = get_recipe(f"tarasov2026@{field}={other.__name__},{setting}={value}")
    assert getattr(recipe, field) == kind()
