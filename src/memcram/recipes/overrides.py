"""Recipes with other settings, in a line of text.

    default                              a recipe by name
    tarasov2026@lr=0.5                   one setting changed
    default@tau=0.1,horizon.patience=50  several, from left to right
    default@objective=CrossEntropy       a component by its class, at that class's defaults
    default@betas=[0.9,0.99]             values are JSON; what is no JSON is a word
    default@{"objective": {"kind": "HingeMargin", "tau": 0.5}}      the same as one JSON object

A key is a path of fields (`optimiser.lr`), or the last field alone (`lr`) where only one component
has it. `variant` is told which classes a line may name, so that trials can stay outside.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from memcram.errors import UsageError
from memcram.recipes.initialisers import NormalStart, UniformStart
from memcram.recipes.objectives import CrossEntropy, HingeMargin, SmoothMargin
from memcram.recipes.optimisers import AdamW
from memcram.recipes.parametrisations import Direct, LowDim
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Fixed, Horizon, Progressive

Components = Mapping[str, tuple[type[Any], ...]]

COMPONENTS: Components = {
    "objective": (CrossEntropy, HingeMargin, SmoothMargin),
    "optimiser": (AdamW,),
    "start": (NormalStart, UniformStart),
    "parametrisation": (Direct, LowDim),
    "strategy": (Fixed, Horizon, Progressive),
    "horizon": (Horizon, Progressive),  # those that keep a prefix
}
_NOT_SETTINGS = ("name", "source", "paper_columns")


@dataclass(frozen=True)
class _Line:
    """A line of text, as errors quote it, and the classes it may name."""

    text: str
    components: Components

    def __str__(self) -> str:
        return repr(self.text)

    def names(self, component: str) -> str:
        """The classes that may take the place of a component."""
        return ", ".join(kind.__name__ for kind in self.components[component])


def variant(
    recipe: Recipe,
    line: str,
    overrides: dict[str, Any],
    components: Components = COMPONENTS,
) -> Recipe:
    """`recipe` with its settings changed, named by the whole line.

    Args:
        recipe: to begin from.
        line: the new name.
        overrides: value by key, as `parse_overrides` gives them.
        components: the classes that may be named, by the recipe's field.

    Raises:
        UsageError: no such field or class, or a value of another type or out of range.
    """
    read = _Line(line, components)
    for key, value in overrides.items():
        recipe = _replaced(read, recipe, _path(read, recipe, key), value)
    return dataclasses.replace(recipe, name=line)


def parse_overrides(line: str, text: str) -> dict[str, Any]:
    """Key and value of each change in what follows the `@` of `line`.

    Raises:
        UsageError: it is neither KEY=VALUE,… nor a JSON object.
    """
    if not text:
        if "@" in line:
            raise UsageError(f"{line!r}: nothing after '@', allowed: KEY=VALUE,… or a JSON object")
        return {}
    if text.startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{line!r}: no JSON object after '@' ({error})") from error
    overrides: dict[str, Any] = {}
    for part in _split(text):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"{line!r}: got {part!r}, allowed: KEY=VALUE")
        overrides[key.strip()] = _value(value.strip())
    return overrides


def _split(text: str) -> list[str]:
    """At the commas outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# -- replacing ----------------------------------------------------------------------------------


def _path(line: _Line, recipe: Recipe, key: str) -> list[str]:
    """The path of fields that `key` names, in full or by its last field."""
    paths = _paths(recipe)
    if key in paths:
        return key.split(".")
    found = [path for path in paths if path.rpartition(".")[2] == key]
    if len(found) == 1:
        return found[0].split(".")
    if found:
        raise UsageError(f"{line}: {key!r} is ambiguous, allowed: {', '.join(found)}")
    raise UsageError(f"{line}: no setting {key!r}, allowed: {', '.join(paths)}")


def _paths(value: Any, above: str = "") -> list[str]:
    """Every field below a dataclass, outer ones first."""
    paths: list[str] = []
    for field in dataclasses.fields(value):
        if above or field.name not in _NOT_SETTINGS:
            path = f"{above}{field.name}"
            paths.append(path)
            inner = getattr(value, field.name)
            if dataclasses.is_dataclass(inner):
                paths += _paths(inner, f"{path}.")
    return paths


def _replaced(line: _Line, whole: Any, path: list[str], value: Any) -> Any:
    """`whole` with the field at `path` set to `value`."""
    name, *rest = path
    old = getattr(whole, name)
    new = _replaced(line, old, rest, value) if rest else _converted(line, whole, name, value)
    return dataclasses.replace(whole, **{name: new})


def _converted(line: _Line, whole: Any, name: str, value: Any) -> Any:
    """`value` as what the field holds: a component from its class or settings, or a plain value."""
    if name in line.components:
        return _component(line, name, getattr(whole, name), value)
    if isinstance(value, list):
        value = tuple(value)
    hint = get_type_hints(type(whole), include_extras=True)[name]
    try:
        return TypeAdapter(hint, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Input should be ")
        got = json.dumps(value)
        raise UsageError(f"{line}: {name}: got {got}, allowed: {said}") from error


def _component(line: _Line, name: str, old: Any, value: Any) -> Any:
    if value is None and name == "horizon":
        return None
    if isinstance(value, str):
        return _class(line, name, value)()
    kinds = line.names(name)
    if not isinstance(value, dict):
        raise UsageError(f"{line}: {name}: got {json.dumps(value)}, allowed: {kinds} or its JSON")
    kind = value.get("kind", type(old).__name__)
    new = old if kind == type(old).__name__ and old else _class(line, name, kind)()
    for key, inner in value.items():
        if key != "kind":
            if key not in {field.name for field in dataclasses.fields(new)}:
                raise UsageError(f"{line}: {type(new).__name__} has no setting {key!r}")
            new = _replaced(line, new, [key], inner)
    return new


def _class(line: _Line, name: str, kind: Any) -> Any:
    """A component's class by its name."""
    for found in line.components[name]:
        if found.__name__ == kind:
            return found
    raise UsageError(f"{line}: {name}: got {kind!r}, allowed: {line.names(name)}")
