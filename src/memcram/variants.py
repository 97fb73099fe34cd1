"""Recipes with other settings, in a line of text.

    default                              a recipe by name
    tarasov2026@lr=0.5                   one setting changed
    default@tau=0.1,horizon.patience=50  several, from left to right
    default@objective=CrossEntropy       a component by its class, at that class's defaults
    default@betas=[0.9,0.99]             values are JSON; what is no JSON is a word
    default@{"objective": {"kind": "HingeMargin", "tau": 0.5}}      the same as one JSON object

A key is a path of fields (`optimiser.lr`), or the last field alone (`lr`) where only one component
has it.
"""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import memcram.objective
import memcram.optimisers
import memcram.parametrisations
import memcram.strategies
from memcram.errors import UsageError

if TYPE_CHECKING:
    from memcram.recipes import Recipe

_HOMES = (
    memcram.objective,
    memcram.optimisers,
    memcram.parametrisations,
    memcram.strategies,
)
_NOT_SETTINGS = ("name", "source")


def variant(recipe: "Recipe", line: str, overrides: dict[str, Any]) -> "Recipe":
    """`recipe` with its settings changed, named by the whole line.

    Raises:
        UsageError: no such field or class, or a value of another type.
    """
    for key, value in overrides.items():
        recipe = _replaced(line, recipe, _path(line, recipe, key), value)
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
        except ValueError as error:
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
    except ValueError:
        return text


# -- replacing ----------------------------------------------------------------------------------


def _path(line: str, recipe: "Recipe", key: str) -> list[str]:
    """The path of fields that `key` names, in full or by its last field."""
    paths = _paths(recipe)
    if key in paths:
        return key.split(".")
    found = [path for path in paths if path.rpartition(".")[2] == key]
    if len(found) == 1:
        return found[0].split(".")
    if found:
        raise UsageError(f"{line!r}: {key!r} is ambiguous, allowed: {', '.join(found)}")
    raise UsageError(f"{line!r}: no setting {key!r}, allowed: {', '.join(paths)}")


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


def _replaced(line: str, whole: Any, path: list[str], value: Any) -> Any:
    """`whole` with the field at `path` set to `value`."""
    name, *rest = path
    old = getattr(whole, name)
    new = _replaced(line, old, rest, value) if rest else _converted(line, name, old, value)
    return dataclasses.replace(whole, **{name: new})


def _converted(line: str, name: str, old: Any, value: Any) -> Any:
    """`value` as what the field holds: a component from its class or settings, or a plain value."""
    if dataclasses.is_dataclass(old) or (old is None and isinstance(value, dict)):
        return _component(line, name, old, value)
    if isinstance(value, str) and old is None:
        return _class(line, name, value)()
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if old is not None and value is not None and type(value) is not type(old):
        raise UsageError(f"{line!r}: {name}: got {value!r}, allowed: {type(old).__name__}")
    return value


def _component(line: str, name: str, old: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return _class(line, name, value)()
    if not isinstance(value, dict):
        raise UsageError(f"{line!r}: {name}: got {value!r}, allowed: a class or a JSON object")
    kind = value.get("kind")
    new = old if kind in (None, type(old).__name__) else _class(line, name, str(kind))()
    for key, inner in value.items():
        if key != "kind":
            if key not in {field.name for field in dataclasses.fields(new)}:
                raise UsageError(f"{line!r}: {type(new).__name__} has no setting {key!r}")
            new = _replaced(line, new, [key], inner)
    return new


def _class(line: str, name: str, kind: str) -> Any:
    """A component's class by its name."""
    for home in _HOMES:
        found = getattr(home, kind, None)
        if isinstance(found, type) and dataclasses.is_dataclass(found):
            return found
    raise UsageError(f"{line!r}: {name}: got {kind!r}, allowed: the name of a component's class")
