"""Read and check a study's spec, a TOML file."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from memcram.errors import UsageError
from memcram.recipes.catalogue import get_recipe
from memcram.study.kinds import KINDS
from memcram.study.spec import PATH_OPTIONS, ModelEntry, Spec, StudySpec, shown_key
from memcram.study.toml_lines import Place, line_of
from memcram.texts.sources import make_source


def read_spec(path: Path, folder: Path | None = None) -> Spec:
    """Read and check a spec.

    Args:
        path: the file.
        folder: where relative paths start; None is the file's own folder.

    Raises:
        UsageError: no such file, no TOML, or a key or value that is not allowed: file, line, key.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(f"SPEC: {str(path)!r} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"SPEC: {str(path)!r} is not UTF-8 (byte {error.start})") from error
    # Editors of some systems end a line with two characters; TOML allows both.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        content = tomllib.loads(text)
    except RecursionError as error:
        raise UsageError(f"{path}: no TOML for a spec: nested too deeply") from error
    except ValueError as error:  # also a number of more digits than Python reads
        raise UsageError(f"{path}: no TOML: {error}") from error
    try:
        study = StudySpec.model_validate(content)
    except ValidationError as error:
        raise UsageError(_first_error(error, path, text)) from error
    spec = Spec(study, path, text, (folder or path.parent).absolute())
    _check(spec)
    return spec


def _check(spec: Spec) -> None:
    """What one key demands of another, and names that must exist."""
    study = spec.study
    if study.kind not in KINDS:
        raise spec.error(("kind",), f"got {study.kind!r}, allowed: {', '.join(KINDS)}")
    kind = KINDS[study.kind]
    _check_key(spec, kind.key)
    for i, name in enumerate(study.recipes):
        try:
            kind.recipe(get_recipe(name))
        except UsageError as error:
            message = str(error).removeprefix("--recipe: ")
            raise spec.error(("recipes", i), message) from error
    for i, entry in enumerate(study.texts):
        place: Place = ("texts", i)
        if entry.lengths is not None and entry.lengths_up_to is not None:
            message = "given beside lengths; allowed: one of the two"
            raise spec.error((*place, "lengths_up_to"), message)
        if kind.needs_lengths and not (entry.lengths or entry.lengths_up_to or study.lengths):
            message = f"no lengths, neither here nor for all texts; {study.kind!r} needs them"
            raise spec.error(place, message)
        for name in PATH_OPTIONS:
            if "\0" in str(entry.options.get(name)):
                raise spec.error((*place, name), f"got {entry.options[name]!r}, allowed: a path")
        try:
            make_source(entry.source, **spec.options(i))
        except UsageError as error:
            key = error.argument or "source"
            raise spec.error((*place, key), error.message(None)) from error


def _check_key(spec: Spec, wanted: str | None) -> None:
    """The key that lists what a kind varies stands there, and no key of another kind."""
    study = spec.study
    for name, kind in KINDS.items():
        key = kind.key
        if key is not None and key != wanted and key in study.model_fields_set:
            raise spec.error((key,), f"unknown to the kind {study.kind!r}, allowed for {name!r}")
    if wanted is not None and wanted not in study.model_fields_set:
        raise spec.error(("kind",), f"got {study.kind!r}, which needs the key {wanted}")
    if study.contexts:
        for i, model in enumerate(study.models):
            if model.layout != "mem":
                message = f"got {model.layout!r}, allowed for 'context': mem"
                raise spec.error(("models", i, "layout"), message)


def _first_error(error: ValidationError, path: Path, text: str) -> str:
    """The first complaint as one line, and how many more there are."""
    details = error.errors(include_url=False)
    first = details[0]
    place = tuple(part for part in first["loc"] if part != "function-before[_as_table()]")
    where = f"{path}, line {line_of(text, place)}: {shown_key(place)}"
    if first["type"] == "missing":
        said = "missing"
    elif first["type"] == "extra_forbidden":
        said = f"unknown key; allowed: {', '.join(_allowed(place))}"
    else:
        message = first["msg"].removeprefix("Input should be ")
        said = f"got {_short(first['input'])}, allowed: {message}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return where + said + more


def _allowed(place: Place) -> list[str]:
    return list(ModelEntry.model_fields if place[0] == "models" else StudySpec.model_fields)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
