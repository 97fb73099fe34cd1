"""Read and check a study's spec, a TOML file."""

import tomllib
from pathlib import Path

from pydantic import ValidationError, create_model

from memcram.errors import UsageError
from memcram.files import reading
from memcram.recipes.catalogue import get_recipe
from memcram.study.kinds import KINDS, Kind
from memcram.study.probe_spec import ProbeSettings
from memcram.study.spec import PATH_OPTIONS, ModelEntry, Spec, StudySpec, shown_argument
from memcram.texts.sources import make_source


def read_spec(path: Path, folder: Path | None = None) -> Spec:
    """Read and check a spec.

    Args:
        path: the file.
        folder: where relative paths start; None is the file's own folder.

    Raises:
        UsageError: the file can't be read or is not TOML, or a key or value is not allowed; the
            error names the file and the key.
    """
    with reading(path, "spec", UsageError):
        text = path.read_bytes().decode("utf-8-sig")
    # Editors of some systems end a line with two characters; TOML allows both.
    return parse_spec(text.replace("\r\n", "\n"), path, folder)


def parse_spec(text: str, path: Path, folder: Path | None = None) -> Spec:
    """Check a spec that was read before, perhaps on another machine.

    Args:
        text: its TOML.
        path, folder: as for `read_spec`.

    Raises:
        UsageError: as of `read_spec`.
    """
    try:
        content = tomllib.loads(text)
    except RecursionError as error:
        raise UsageError("not a TOML spec: nested too deeply", argument=str(path)) from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise UsageError(f"not TOML: {error}", argument=str(path)) from error
    # The keys of single kinds; `_check_key` refuses those of another kind.
    keys = {kind.key: (kind.key_type | None, None) for kind in KINDS.values() if kind.key}
    model: type[StudySpec] = create_model("StudySpec", __base__=StudySpec, **keys)  # type: ignore[call-overload]
    try:
        study = model.model_validate(content)
    except ValidationError as error:
        raise _first_error(error, path, list(model.model_fields)) from error
    spec = Spec(study, path, text, (folder or path.parent).absolute())
    _check(spec)
    return spec


def _check(spec: Spec) -> None:
    """Check what one key requires of another, and that names exist."""
    study = spec.study
    if study.kind not in KINDS:
        raise spec.error(("kind",), got=study.kind, allowed=", ".join(KINDS))
    kind = KINDS[study.kind]
    _check_key(spec, kind)
    of_prefix = [c.prefix_recipe for c in kind.conditions_of(study) if c.prefix_recipe]
    for key, names in (("recipes", study.recipes), ("prefix_recipes", of_prefix)):
        for i, name in enumerate(names):
            try:
                kind.recipe(get_recipe(name))
            except UsageError as error:
                raise spec.error_from((key, i), error) from error
    if of_prefix and study.init is not None:
        problem = f"got an archive, but {study.kind!r} trains more than input vectors"
        raise spec.error(("init",), problem)
    if of_prefix and study.compile:
        raise spec.error(("compile",), got=True, allowed=f"false for {study.kind!r}")
    if study.init is not None and any(c.init for c in kind.conditions_of(study)):
        problem = f"got an archive, but {study.kind!r} compares random inits"
        raise spec.error(("init",), problem)
    for i in range(len(study.texts)):
        _check_text(spec, i, kind)
    kind.check(spec)


def _check_key(spec: Spec, kind: Kind) -> None:
    """Check that the key that `kind` varies is given, and no key of another kind."""
    study = spec.study
    for name, other in KINDS.items():
        if other.key not in (None, kind.key) and other.key in study.model_fields_set:
            problem = f"unknown to the kind {study.kind!r}, allowed for {name!r}"
            raise spec.error((str(other.key),), problem)
    if kind.key is not None and kind.needs_key and study.of_kind(kind.key) is None:
        raise spec.error(("kind",), f"got {study.kind!r}, which needs the key {kind.key}")
    if any(condition.context for condition in kind.conditions_of(study)):
        for i, model in enumerate(study.models):
            if model.layout != "mem":
                raise spec.error(
                    ("models", i, "layout"),
                    f"got {model.layout!r}, allowed for {study.kind!r}: mem",
                )


def _check_text(spec: Spec, i: int, kind: Kind) -> None:
    """Check the lengths and the options of a text entry."""
    study, key = spec.study, ("texts", i)
    entry = study.texts[i]
    if entry.lengths is not None and entry.lengths_up_to is not None:
        raise spec.error(
            (*key, "lengths_up_to"), "given together with lengths", allowed="one of the two"
        )
    if not kind.finds_length and not (entry.lengths or entry.lengths_up_to or study.lengths):
        problem = f"no lengths here or for the whole study; {study.kind!r} needs them"
        raise spec.error(key, problem)
    for name in PATH_OPTIONS:
        if "\0" in str(entry.options.get(name)):
            raise spec.error((*key, name), got=entry.options[name], allowed="a path")
    try:
        make_source(entry.source, **spec.options(i))
    except UsageError as error:
        raise spec.error_from((*key, error.argument or "source"), error) from error


def _first_error(error: ValidationError, path: Path, keys: list[str]) -> UsageError:
    """Make one error from the first validation error, with the number of the others."""
    details = error.errors(include_url=False)
    first = details[0]
    key = tuple(part for part in first["loc"] if part != "function-before[_as_table()]")
    if first["type"] == "missing":
        problem, allowed = "missing", None
    elif first["type"] == "extra_forbidden":
        problem = "unknown key"
        tables = {
            "models": ModelEntry.model_fields,
            "probe": ProbeSettings.model_fields if len(key) > 1 else keys,
        }
        allowed = ", ".join(tables.get(str(key[0]), keys))
    else:
        problem = f"got {_short(first['input'])}"
        allowed = first["msg"].removeprefix("Input should be ")
    if len(details) > 1:
        more = f" (and {len(details) - 1} more)"
        problem, allowed = (problem + more, None) if allowed is None else (problem, allowed + more)
    return UsageError(problem, argument=shown_argument(path, key), allowed=allowed)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
