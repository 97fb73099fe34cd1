"""A study's spec: a TOML file, checked key by key before any work is done for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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
    token_steps: PositiveInt | None = None
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
        return UsageError(
            f"{self.path}, line {line_of(self.text, place)}: {shown_key(place)}{message}"
        )

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


def shown_key(place: Place) -> str:
    """`texts[1].lengths[0]: `."""
    shown = ""
    for part in place:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return f"{shown}: " if shown else ""
