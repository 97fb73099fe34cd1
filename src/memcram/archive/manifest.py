"""Define, check and parse the manifest of an archive: a small JSON document with checksums."""

import hashlib
import json
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from memcram.errors import ArchiveError
from memcram.models.modes import DtypeName, Layout
from memcram.quantisation import Store

PLAIN_VERSION, PACKED_VERSION = 1, 2
"""Versions of archives whose vectors are stored in the model's dtype, and in fewer bits."""
FORMAT_VERSION = PACKED_VERSION
MAX_MANIFEST_BYTES = 64 * 1024
_MANIFEST_KEY = "memcram"
_CHECKSUM_KEY = "memcram.sha256"

_Sha256 = Field(pattern=r"^[0-9a-f]{64}$")

# Without control characters, which could forge lines where a name is printed.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
_Name = Field(min_length=1, max_length=512, pattern=_PRINTABLE)
_Revision = Field(default=None, min_length=1, max_length=128, pattern=_PRINTABLE)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelRecord(_Strict):
    """The model an archive was made with."""

    id: str = _Name
    revision: str | None = _Revision
    fingerprint: str = _Sha256
    input_width: int = Field(ge=1, le=1_000_000)
    vocab_size: int = Field(ge=1, le=100_000_000)


class TextRecord(_Strict):
    """The text an archive holds."""

    sha256: str = _Sha256
    bytes: int = Field(ge=1)
    tokens: int = Field(ge=0)


class StorageRecord(_Strict):
    """How the vectors are stored, if not in the model's dtype.

    Attributes:
        store: as given to `compress`.
        chunks_shortened: chunks that hold fewer tokens than before they were stored so.
    """

    store: Store
    chunks_shortened: int = Field(ge=0)


class Manifest(_Strict):
    """The archive's one JSON document; `storage` only if the vectors are packed."""

    format: Literal["memcram"] = "memcram"
    version: int = Field(default=PLAIN_VERSION, ge=1)
    model: ModelRecord
    text: TextRecord
    dtype: DtypeName
    layout: Layout
    recipe: dict[str, Any]
    seed: int
    versions: dict[str, str]
    tensors_sha256: str = _Sha256
    storage: StorageRecord | None = None

    @model_validator(mode="after")
    def _version_fits(self) -> "Manifest":
        if (self.version == PACKED_VERSION) != (self.storage is not None):
            raise ValueError("version and storage disagree")
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `storage` if there is none, as version 1 has no such field."""
        found: dict[str, Any] = handler(self)
        if self.storage is None:
            del found["storage"]
        return found


def manifest_metadata(manifest: Manifest) -> dict[str, str]:
    """Return the metadata of a safetensors file with this manifest."""
    text = manifest.model_dump_json()
    return {_MANIFEST_KEY: text, _CHECKSUM_KEY: hashlib.sha256(text.encode()).hexdigest()}


def parse_manifest(name: str, metadata: Any) -> Manifest:
    """Check and parse the metadata of a safetensors file.

    Args:
        name: how errors call the file.
        metadata: its `__metadata__`, whatever it is.

    Raises:
        ArchiveError: it has no manifest, a damaged one, or one of a newer version.
    """
    text = metadata.get(_MANIFEST_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ArchiveError(f"{name}: a safetensors file, but not a memcram archive")
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise ArchiveError(
            f"{name}: the manifest has {len(encoded)} bytes, allowed: {MAX_MANIFEST_BYTES}"
        )
    if hashlib.sha256(encoded).hexdigest() != metadata.get(_CHECKSUM_KEY):
        raise ArchiveError(f"{name}: damaged (checksum of the manifest)")
    try:
        version = json.loads(text).get("version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ArchiveError(
                f"{name}: archive version {version}, but this memcram reads up to {FORMAT_VERSION}"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArchiveError(f"{name}: manifest: {where}: {first['msg']}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"{name}: damaged (manifest)") from error
