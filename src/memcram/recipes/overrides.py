"""Read variants of recipes, such as `default@tau=0.1`, from a line of text.

    default                              a recipe by name
    tarasov2026@lr=0.5                   one setting changed
    default@tau=0.1,horizon.patience=50  several, from left to right
    default@objective=CrossEntropy       a component by its class, with that class's defaults
    direct@k=32                          a setting that only LowDim has selects LowDim
    tarasov2026@temperature=0.25         `temperature` is another name of ColdCrossEntropy's T
    tarasov2026+low-dim@in_group=true,group_size=10     W and b shared by groups of ten texts
    default@betas=[0.9,0.99]             values are JSON; anything else is a word
    default@{"objective": {"kind": "HingeMargin", "tau": 0.5}}      the same as one JSON object

A key is a path of fields (`optimiser.lr`), or the last field alone (`lr`) where only one component
of the recipe has it. If no component of the recipe has it, but exactly one class in
`memcram.recipes.components` does, the setting selects that class, with its other settings at their
defaults. Values are checked by the components themselves.
"""

import dataclasses
import json
from typing import Any

from memcram.errors import UsageError
from memcram.recipes.components import COMPONENTS
from memcram.recipes.recipe import Recipe

_NOT_SETTINGS = ("name", "source", "paper_columns")
_ALIASES = {"temperature": "T"}


def variant(recipe: Recipe, line: str, overrides: dict[str, Any]) -> Recipe:
    """Return `recipe` with some settings changed, named by the whole line.

    Args:
        recipe: the recipe to change.
        line: name of the result.
        overrides: value by key, as `parse_overrides` returns them.

    Raises:
        UsageError: no such setting or class, or a value of another type or out of range.
    """
    for key, value in overrides.items():
        path, value = _resolved(line, recipe, key, value)
        recipe = _replaced(line, recipe, path, value)
    return dataclasses.replace(recipe, name=line)


def parse_overrides(line: str, text: str) -> dict[str, Any]:
    """Parse the changes in the part of `line` after the `@` to keys and values.

    Raises:
        UsageError: it is neither KEY=VALUE,… nor a JSON object.
    """
    if not text:
        if "@" in line:
            raise _error(line, "nothing after '@'", "KEY=VALUE,… or a JSON object")
        return {}
    if text.startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise _error(line, f"no JSON object after '@' ({error})") from error
    overrides: dict[str, Any] = {}
    for part in _split(text):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise _error(line, f"got {part!r}", "KEY=VALUE")
        overrides[key.strip()] = _value(value.strip())
    return overrides


def _error(line: str, problem: str, allowed: str | None = None) -> UsageError:
    return UsageError(f"{line!r}: {problem}", argument="recipe", got=line, allowed=allowed)


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
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


# -- find the setting ---------------------------------------------------------------------------


def _resolved(line: str, recipe: Recipe, key: str, value: Any) -> tuple[list[str], Any]:
    """Return the path of fields that `key` means, and the value to put there."""
    key = _field(key)
    paths = _paths(recipe)
    found = [key] if key in paths else [path for path in paths if _last(path) == key]
    if len(found) == 1:
        return found[0].split("."), value
    if found:
        raise _error(line, f"{key!r} is ambiguous", ", ".join(found))
    classes = [
        (field, kind.__name__)
        for field, kinds in COMPONENTS.items()
        for kind in kinds
        if _last(key) in _names(kind) and key in (_last(key), f"{field}.{_last(key)}")
    ]
    if not classes:
        raise _error(line, f"no setting {key!r}", ", ".join(paths))
    if len(classes) > 1:
        choices = " or ".join(f"{field}={kind}" for field, kind in classes)
        raise _error(line, f"{key!r} is a setting of several classes", f"after {choices}")
    [(field, kind)] = classes
    return [field], {"kind": kind, _last(key): value}


def _field(key: str) -> str:
    """Replace an alias by the name of the field."""
    above, dot, last = key.rpartition(".")
    return above + dot + _ALIASES.get(last, last)


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _names(component: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(component)]


def _paths(value: Any, above: str = "") -> list[str]:
    """List the paths of all fields of a recipe or component, outer fields first."""
    paths: list[str] = []
    for name in _names(value):
        if above or name not in _NOT_SETTINGS:
            path = f"{above}{name}"
            paths.append(path)
            inner = getattr(value, name)
            if dataclasses.is_dataclass(inner):
                paths += _paths(inner, f"{path}.")
    return paths


# -- replace it ---------------------------------------------------------------------------------


def _replaced(line: str, whole: Any, path: list[str], value: Any) -> Any:
    """Return a copy of a recipe or component with the field at `path` set to `value`."""
    name, *rest = path
    if rest:
        new = _replaced(line, getattr(whole, name), rest, value)
    elif name in COMPONENTS:
        new = _component(line, name, getattr(whole, name), value)
    else:
        new = tuple(value) if isinstance(value, list) else value
    try:
        return dataclasses.replace(whole, **{name: new})
    except UsageError as error:
        problem = f"{error.argument}: got {json.dumps(value)}"
        raise _error(line, problem, error.allowed) from error


def _component(line: str, field: str, old: Any, value: Any) -> Any:
    """Make a component from its class name, or from a JSON object of its settings."""
    if value is None and field == "horizon":
        return None
    kinds = {kind.__name__: kind for kind in COMPONENTS[field]}
    settings = {"kind": value} if isinstance(value, str) else value
    if not isinstance(settings, dict):
        allowed = f"{', '.join(kinds)} or its JSON"
        raise _error(line, f"{field}: got {json.dumps(value)}", allowed)
    kind = settings.get("kind", type(old).__name__)
    if not isinstance(kind, str) or kind not in kinds:
        raise _error(line, f"{field}: got {kind!r}", ", ".join(kinds))
    # A class by its name alone is at its defaults; a JSON object keeps what it does not mention.
    keep = type(old).__name__ == kind and not isinstance(value, str)
    new = old if keep else kinds[kind]()
    for key, inner in settings.items():
        if key != "kind":
            if _field(key) not in _names(new):
                raise _error(line, f"{kind} has no setting {key!r}")
            new = _replaced(line, new, [_field(key)], inner)
    return new
