"""A study's spec: the keys of its TOML file and their types."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from memcram.engine.compute import ComputeDtype
from memcram.errors import NOTHING, MemcramError, UsageError
from memcram.models.modes import DtypeName, Layout

KeyPath = tuple[str | int, ...]
"""Keys and list indices from the top of the file to a value: `("texts", 1, "lengths", 0)`."""

PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]  # so that costs stay within 64 bits
Positives = Annotated[list[PositiveInt], Field(min_length=1)]
# Options of sources that name files; relative ones start at the spec's folder.
PATH_OPTIONS = ("path",)
# So that seeds of different texts, which lie a stride apart, stay within 64 bits.
_MAX_SEED = 2**32 - 1


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ModelEntry(_Strict):
    """One model of a study; the TOML may give its id alone.

    `config` is the folder of the original config.json of a GGUF model.
    """

    id: Annotated[str, Field(pattern=r"^[^\x00]+$")]
    revision: str | None = None
    config: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    layout: Layout = "mem"


class TextEntry(BaseModel):
    """One source of texts; keys that are not named here are options of the source."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    source: str
    lengths: Positives | None = None
    lengths_up_to: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    vectors: Positives | None = None
    samples: PositiveInt | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the source."""
        return dict(self.model_extra or {})


def _as_table(entry: object) -> object:
    return {"id": entry} if isinstance(entry, str) else entry


class StudySpec(_Strict):
    """Keys of a spec that every kind of study has; see docs/studies.md.

    `memcram.study.read` adds the keys of single kinds.
    """

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
    compute_dtype: ComputeDtype | None = None
    compile: bool = False
    autocast: Literal["bfloat16", "float16"] | None = None
    attention: Literal["sdpa", "eager", "flash_attention_2"] | None = None
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)] = 0
    init: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    prefix_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    texts: Annotated[list[TextEntry], Field(min_length=1)]

    def of_kind(self, key: str | None) -> Any:
        """Value of a key that only one kind has; None where it is not given."""
        return None if key is None else getattr(self, key, None)


@dataclass(frozen=True)
class Load:
    """One way in which a model of the study is loaded.

    Attributes:
        entry: the model in the spec.
        layers: how many of the first layers are kept; None keeps all.
    """

    entry: ModelEntry
    layers: int | None = None

    @property
    def condition(self) -> str:
        """Value of the column `condition`; empty for the whole model."""
        return "" if self.layers is None else f"layers={self.layers}"


@dataclass(frozen=True)
class Spec:
    """A spec with the file it was read from, which errors name.

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
        """The models, once per number of layers; the store numbers them in this order."""
        layers: Sequence[int | None] = self.study.of_kind("layers") or (None,)
        return [Load(entry, n) for entry in self.study.models for n in layers]

    def error(
        self, key: KeyPath, problem: str = "", *, got: object = NOTHING, allowed: str | None = None
    ) -> UsageError:
        """Make an error about the value at `key`: `FILE: texts[1].lengths[0]: got …`."""
        argument = shown_argument(self.path, key)
        return UsageError(problem, argument=argument, got=got, allowed=allowed)

    def error_from(self, key: KeyPath, error: MemcramError) -> UsageError:
        """Make an error about the value at `key` from one about the argument it was passed as."""
        return self.error(key, error.problem, got=error.got, allowed=error.allowed)

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


def shown_argument(path: Path, key: KeyPath) -> str:
    """Name a value of a spec in an error: `FILE: texts[1].lengths[0]`."""
    shown = ""
    for part in key:
        shown += f"[{part}]" if isinstance(part, int) else f".{part}" if shown else part
    return f"{path}: {shown}" if shown else str(path)
