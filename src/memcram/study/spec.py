"""A study's spec: a TOML file, checked key by key before any work is done for it."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from memcram.errors import UsageError
from memcram.models.modes import DtypeName, Layout
from memcram.study.toml_lines import Place, line_of

PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]  # so that costs stay within 64 bits
Positives = Annotated[list[PositiveInt], Field(min_length=1)]
# Options of sources that name files; relative ones start at the spec's folder.
PATH_OPTIONS = ("path",)
# So that starts of different texts, which lie a stride apart, stay within 64 bits.
_MAX_SEED = 2**32 - 1


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelEntry(_Strict):
    """One model of a study; in the TOML its id alone will do."""

    id: Annotated[str, Field(pattern=r"^[^\x00]+$")]
    revision: str | None = None
    layout: Layout = "mem"


class TextEntry(BaseModel):
    """One source of texts; keys that are not named here are the source's own options."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    source: str
    lengths: Positives | None = None
    lengths_up_to: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    vectors: Positives | None = None
    samples: PositiveInt | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the source is given."""
        return dict(self.model_extra or {})


def _as_table(entry: object) -> object:
    return {"id": entry} if isinstance(entry, str) else entry


class StudySpec(_Strict):
    """All keys of a spec; see docs/studies.md."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")]
    kind: str = "capacity"
    models: Annotated[list[Annotated[ModelEntry, BeforeValidator(_as_table)]], Field(min_length=1)]
    recipes: Annotated[list[str], Field(min_length=1)] = ["default"]
    vectors: Positives = [1]
    lengths: Positives | None = None
    samples: PositiveInt = 16
    steps: PositiveInt | None = None
    dtype: DtypeName = "float32"
    autocast: Literal["bfloat16", "float16"] | None = None
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)] = 0
    contexts: Positives | None = None
    starts: Annotated[int, Field(ge=2, le=1000)] | None = None
    layers: Positives | None = None
    texts: Annotated[list[TextEntry], Field(min_length=1)]


@dataclass(frozen=True)
class Load:
    """A model as it is loaded.

    Attributes:
        entry: of the spec.
        layers: the first layers that are kept; None keeps all.
    """

    entry: ModelEntry
    layers: int | None = None

    @property
    def condition(self) -> str:
        """What sets its rows apart from those of the whole model."""
        return "" if self.layers is None else f"layers={self.layers}"


@dataclass(frozen=True)
class Spec:
    """A spec with the file it came from, for errors that name the line.

    Attributes:
        study: the settings.
        path: the file, as the user named it.
        text: its content.
        folder: where relative paths start.
    """

    study: StudySpec
    path: Path
    text: str
    folder: Path

    @property
    def loads(self) -> list[Load]:
        """The models, each as often as it is loaded; the store numbers them in this order."""
        layers: Sequence[int | None] = self.study.layers or (None,)
        return [Load(entry, n) for entry in self.study.models for n in layers]

    def error(self, place: Place, message: str) -> UsageError:
        """An error about the value at `place`: file, line, key, message."""
        return UsageError(f"{self.path}, line {line_of(self.text, place)}: {_key(place)}{message}")

    def options(self, entry: int) -> dict[str, Any]:
        """Options of a text entry, with relative paths made absolute."""
        options = self.study.texts[entry].options
        for name in PATH_OPTIONS:
            given = options.get(name)
            if isinstance(given, str):
                options[name] = self.folder / given
            elif isinstance(given, list) and all(isinstance(one, str) for one in given):
                options[name] = tuple(self.folder / one for one in given)
        return options


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
    from memcram.recipes import get_recipe
    from memcram.study.kinds import KINDS
    from memcram.texts.sources import make_source

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
            # The sources' errors begin with the option they are about.
            key, _, message = str(error).partition(": ")
            raise spec.error((*place, key), message) from error


def _check_key(spec: Spec, wanted: str | None) -> None:
    """The key that lists what a kind varies stands there, and no key of another kind."""
    from memcram.study.kinds import KINDS

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
    where = f"{path}, line {line_of(text, place)}: {_key(place)}"
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


def _key(place: Place) -> str:
    """`texts[1].lengths[0]: `."""
    shown = ""
    for part in place:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return f"{shown}: " if shown else ""
