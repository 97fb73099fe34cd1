"""Recipes of the arena, and their variants in a line of text.

    default                              a recipe by name
    tarasov2026@lr=0.3                   one setting changed
    default@tau=0.1,horizon.patience=50  several, from left to right
    default@objective=CrossEntropy       a component by its class, at that class's defaults
    default@betas=[0.9,0.99]             values are JSON; what is no JSON is a word
    default@{"objective": {"kind": "HingeMargin", "tau": 0.5}}      the same as one JSON object
    default@lengths=grid                 at each length of the grid instead of growing

A key is a path of fields (`optimiser.lr`), or the last field alone (`lr`) where only one component
has it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import memcram.objective
import memcram.optimisers
import memcram.parametrisations
import memcram.strategies
from memcram.errors import UsageError
from memcram.recipes import Recipe, get_recipe

GROWN, GRID = "grown", "grid"
BASELINE = "kuratov2025+t1"
_HOMES = (
    memcram.objective,
    memcram.optimisers,
    memcram.parametrisations,
    memcram.strategies,
)
_NOT_SETTINGS = ("name", "source")


@dataclass(frozen=True)
class Entry:
    """A recipe in the arena.

    Attributes:
        recipe: with its overrides, named by the whole line.
        grows: it finds the horizon of a text by itself; otherwise it runs at each length of the
            grid.
    """

    recipe: Recipe
    grows: bool

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
    name, _, text = line.strip().partition("@")
    recipe = get_recipe(name)
    overrides = _parse_overrides(line, text)
    lengths = overrides.pop("lengths", None)
    if lengths not in (None, GROWN, GRID):
        raise UsageError(f"{line!r}: lengths: got {lengths!r}, allowed: {GROWN!r}, {GRID!r}")
    for key, value in overrides.items():
        path = _path(line, recipe, key)
        recipe = _replaced(line, recipe, path, value)
    if recipe.first_token_given:
        raise UsageError(
            f"--recipe: {line.strip()!r} is given t₁, and every recipe of the arena predicts it; "
            f"use {BASELINE!r}"
        )
    can_grow = recipe.horizon is not None and recipe.horizon.keeps_prefix
    if lengths == GROWN and not can_grow:
        raise UsageError(f"{line!r}: lengths: got {GROWN!r}, but its `horizon` keeps no prefix")
    grows = can_grow and lengths != GRID
    return Entry(dataclasses.replace(recipe, name=line.strip()), grows)


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


# -- parsing ------------------------------------------------------------------------------------


def _parse_overrides(line: str, text: str) -> dict[str, Any]:
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


def _path(line: str, recipe: Recipe, key: str) -> list[str]:
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
