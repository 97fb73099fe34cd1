"""`NAME.mem.safetensors`: tensors for everything that grows, one small JSON manifest for the rest.

Written and read with the safetensors library; docs/formats.md describes every field. Nothing in an
archive is believed before it is checked, and everything is checked before a model is loaded.
"""

import hashlib
import json
import struct
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from memcram.archive.pieces import RawPiece
from memcram.errors import ArchiveError
from memcram.files import check_writable, write_atomically
from memcram.models.modes import DtypeName, Layout

SUFFIX = ".mem.safetensors"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 256 * 1024
MAX_MANIFEST_BYTES = 64 * 1024
MAX_CHUNK_TOKENS = 2**20
MANIFEST_KEY = "memcram"
CHECKSUM_KEY = "memcram.sha256"

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")
# What safetensors raises, and torch (RuntimeError) of a shape that it can't hold.
_UNREADABLE = (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError)

# Without control characters, which could forge lines where a name is printed.
_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
Name = Field(min_length=1, max_length=512, pattern=_PRINTABLE)
Revision = Field(default=None, min_length=1, max_length=128, pattern=_PRINTABLE)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelRecord(_Strict):
    """The model an archive was made with."""

    id: str = Name
    revision: str | None = Revision
    fingerprint: str = Sha256
    input_width: int = Field(ge=1, le=1_000_000)
    vocab_size: int = Field(ge=1, le=100_000_000)


class TextRecord(_Strict):
    """The text an archive holds."""

    sha256: str = Sha256
    bytes: int = Field(ge=1)
    tokens: int = Field(ge=0)


class Manifest(_Strict):
    """The archive's one JSON document."""

    format: Literal["memcram"] = "memcram"
    version: int = Field(default=FORMAT_VERSION, ge=1)
    model: ModelRecord
    text: TextRecord
    dtype: DtypeName
    layout: Layout
    recipe: dict[str, Any]
    seed: int
    versions: dict[str, str]
    tensors_sha256: str = Sha256


@dataclass(frozen=True)
class ArchiveTensors:
    """Everything in an archive that grows with the text.

    Attributes:
        vectors: (all vectors, width) in the archive's dtype.
        chunk_vectors: (chunk,) int32, K of each chunk; sums to `len(vectors)`.
        chunk_tokens: (chunk,) int32, tokens of each chunk.
        chunk_margins: (chunk,) float32, smallest margin over the tokens the vectors answer for.
        correction_positions: (correction,) int64, rising, in the joined tokens of all chunks:
            tokens that decoding misses.
        correction_tokens: (correction,) int32.
        guard_positions, guard_tokens: the same for tokens that decoding gets right, but by a
            margin too small to rely on elsewhere.
        piece_tokens: (piece,) int64, tokens of each stretch that is detokenized by itself.
        raw_offsets, raw_removed, raw_lengths: (raw,) int64; see `RawPiece`.
        raw_bytes: (Σ raw_lengths,) uint8.
    """

    vectors: Tensor
    chunk_vectors: Tensor
    chunk_tokens: Tensor
    chunk_margins: Tensor
    correction_positions: Tensor
    correction_tokens: Tensor
    guard_positions: Tensor
    guard_tokens: Tensor
    piece_tokens: Tensor
    raw_offsets: Tensor
    raw_removed: Tensor
    raw_lengths: Tensor
    raw_bytes: Tensor

    def named(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def sha256(self) -> str:
        """SHA-256 (hex) over names, dtypes, shapes and bytes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.named().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Archive:
    """A text as vectors, with what it takes to get every byte back.

    Example:
        >>> import memcram
        >>> lm = memcram.load_lm("pocket")
        >>> archive = memcram.compress("A dark night.", lm)
        >>> memcram.decompress(archive, lm)
        b'A dark night.'
    """

    manifest: Manifest
    tensors: ArchiveTensors

    @property
    def mems(self) -> list[Tensor]:
        """Per chunk (K, width), in the stored dtype."""
        return list(self.tensors.vectors.split(self.tensors.chunk_vectors.tolist()))

    @property
    def chunk_tokens(self) -> list[int]:
        """Tokens of each chunk."""
        tokens: list[int] = self.tensors.chunk_tokens.tolist()
        return tokens

    @property
    def raw_pieces(self) -> list[RawPiece]:
        """What the tokenizer loses."""
        t = self.tensors
        data = t.raw_bytes.numpy().tobytes()
        pieces, at = [], 0
        columns = (t.raw_offsets.tolist(), t.raw_removed.tolist(), t.raw_lengths.tolist())
        for offset, removed, length in zip(*columns, strict=True):
            pieces.append(RawPiece(offset, removed, data[at : at + length]))
            at += length
        return pieces

    def forced(self) -> list[Tensor]:
        """Per chunk (tokens,): the stored token where there is a correction or guard, else −1."""
        joined = torch.full((self.manifest.text.tokens,), -1, dtype=torch.long)
        joined[self.tensors.correction_positions] = self.tensors.correction_tokens.long()
        joined[self.tensors.guard_positions] = self.tensors.guard_tokens.long()
        return list(joined.split(self.chunk_tokens))

    def summary(self) -> dict[str, Any]:
        """What the archive holds, in the fields of `memcram compress --json`."""
        t, text = self.tensors, self.manifest.text
        ends = t.chunk_tokens.long().cumsum(0)
        corrected = torch.searchsorted(ends, t.correction_positions, right=True).unique()
        corrections = [t.correction_positions, t.correction_tokens]
        corrections += [t.guard_positions, t.guard_tokens]
        raw = [t.raw_offsets, t.raw_removed, t.raw_lengths, t.raw_bytes]
        stored = [t.vectors, *corrections, *raw]
        smallest = t.chunk_margins.min().item() if len(t.chunk_margins) else float("inf")
        return {
            "bytes_in": text.bytes,
            "tokens": text.tokens,
            "vectors": len(t.vectors),
            "tokens_per_vector": text.tokens / len(t.vectors) if len(t.vectors) else None,
            "chunks": len(ends),
            "chunks_exact": len(ends) - len(corrected),
            "tokens_corrected": len(t.correction_positions),
            "tokens_guarded": len(t.guard_positions),
            "raw_bytes": len(t.raw_bytes),
            "bits_stored": sum(8 * x.numel() * x.element_size() for x in stored),
            "min_margin": smallest if smallest < float("inf") else None,
        }

    def to_bytes(self) -> bytes:
        """The file's content; the same archive always gives the same bytes."""
        manifest = self.manifest.model_dump_json()
        checksum = hashlib.sha256(manifest.encode()).hexdigest()
        metadata = {MANIFEST_KEY: manifest, CHECKSUM_KEY: checksum}
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.named().items()}
        return _with_sorted_header(safetensors.torch.save(tensors, metadata))

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Write the archive whole or not at all.

        Raises:
            UsageError: the file exists and `force` is off, or it can't be written.
        """
        check_writable(Path(path), force=force)
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def read(cls, path: str | Path) -> "Archive":
        """Read and check an archive; no model is loaded.

        Raises:
            ArchiveError: not an archive, damaged, or of a newer version.
        """
        try:
            with Path(path).open("rb") as file:
                head = file.read(8)
                length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
                if not 2 <= length <= MAX_HEADER_BYTES:
                    raise ArchiveError(f"{path}: not a memcram archive")
                header = file.read(length)
                _check_size(path, header, 8 + length)
                data = head + header + file.read()
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror or error}") from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "archive") -> "Archive":
        """Check and take apart the content of an archive file.

        Raises:
            ArchiveError: not an archive, damaged, or of a newer version.
        """
        length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
            raise ArchiveError(f"{name}: not a memcram archive")
        header = _parse_header(name, data[8 : 8 + length])
        manifest = _parse_manifest(name, header.get("__metadata__"))
        try:
            loaded = safetensors.torch.load(data)
        except _UNREADABLE as error:
            raise ArchiveError(f"{name}: damaged ({error})") from error
        expected = {field.name for field in fields(ArchiveTensors)}
        if set(loaded) != expected:
            raise ArchiveError(f"{name}: damaged (tensors {sorted(set(loaded) ^ expected)})")
        tensors = ArchiveTensors(**loaded)
        if tensors.sha256() != manifest.tensors_sha256:
            raise ArchiveError(f"{name}: damaged (checksum of the tensors)")
        problem = _inconsistency(manifest, tensors)
        if problem:
            raise ArchiveError(f"{name}: inconsistent ({problem})")
        return cls(manifest, tensors)


def _with_sorted_header(content: bytes) -> bytes:
    """The library writes metadata in a random order; the same archive must give the same bytes."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[end:]


def _check_size(path: str | Path, header: bytes, start: int) -> None:
    """Compare the size that the header promises with the file's, before reading the rest."""
    entries = _parse_header(str(path), header)
    ends = [
        entry["data_offsets"][1]
        for name, entry in entries.items()
        if name != "__metadata__" and _has_offsets(entry)
    ]
    if max(ends, default=0) + start != Path(path).stat().st_size:
        raise ArchiveError(f"{path}: damaged (its size is not the one its header gives)")


def _has_offsets(entry: Any) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return isinstance(offsets, list) and len(offsets) == 2 and all(type(x) is int for x in offsets)


def _parse_header(name: str, header: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{name}: not a memcram archive") from error
    if not isinstance(entries, dict):
        raise ArchiveError(f"{name}: not a memcram archive")
    return entries


def _parse_manifest(name: str, metadata: Any) -> Manifest:
    text = metadata.get(MANIFEST_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ArchiveError(f"{name}: a safetensors file, but not a memcram archive")
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise ArchiveError(
            f"{name}: the manifest has {len(encoded)} bytes, allowed: {MAX_MANIFEST_BYTES}"
        )
    if hashlib.sha256(encoded).hexdigest() != metadata.get(CHECKSUM_KEY):
        raise ArchiveError(f"{name}: damaged (checksum of the manifest)")
    try:
        version = json.loads(text).get("version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ArchiveError(
                f"{name}: archive version {version}, this memcram reads up to {FORMAT_VERSION}"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArchiveError(f"{name}: manifest: {where}: {first['msg']}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"{name}: damaged (manifest)") from error


_DTYPES = {
    "chunk_vectors": torch.int32,
    "chunk_tokens": torch.int32,
    "chunk_margins": torch.float32,
    "correction_positions": torch.int64,
    "correction_tokens": torch.int32,
    "guard_positions": torch.int64,
    "guard_tokens": torch.int32,
    "piece_tokens": torch.int64,
    "raw_offsets": torch.int64,
    "raw_removed": torch.int64,
    "raw_lengths": torch.int64,
    "raw_bytes": torch.uint8,
}


def _inconsistency(manifest: Manifest, t: ArchiveTensors) -> str | None:
    """The first way in which the tensors contradict the manifest or each other."""
    named = t.named()
    wrong = [n for n, dtype in _DTYPES.items() if named[n].dtype != dtype or named[n].dim() != 1]
    if wrong:
        return f"type or shape of {wrong[0]}"
    if t.vectors.dim() != 2 or str(t.vectors.dtype) != f"torch.{manifest.dtype}":
        return "type or shape of vectors"
    tokens, width = manifest.text.tokens, manifest.model.input_width
    vocabulary = manifest.model.vocab_size
    same = len(t.chunk_vectors) == len(t.chunk_tokens) == len(t.chunk_margins)
    raw = len(t.raw_offsets) == len(t.raw_removed) == len(t.raw_lengths)
    counts = (t.chunk_vectors, t.chunk_tokens, t.piece_tokens)
    checks = {
        "width of the vectors": t.vectors.shape[1] == width,
        "values of the vectors": bool(t.vectors.isfinite().all()),
        "number of chunks": same,
        "counts": all(bool((x > 0).all()) for x in counts),
        "length of the chunks": bool((t.chunk_tokens <= MAX_CHUNK_TOKENS).all()),
        "vectors of the chunks": _sum(t.chunk_vectors) == len(t.vectors),
        "tokens of the chunks": _sum(t.chunk_tokens) == tokens == _sum(t.piece_tokens),
        "margins": not bool(t.chunk_margins.isnan().any()),
        "corrections": _fits(t.correction_positions, t.correction_tokens, tokens, vocabulary),
        "guards": _fits(t.guard_positions, t.guard_tokens, tokens, vocabulary),
        "raw pieces": raw and _sum(t.raw_lengths) == len(t.raw_bytes),
        "raw piece sizes": all(
            bool((x >= 0).all()) for x in (t.raw_offsets, t.raw_removed, t.raw_lengths)
        ),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def _fits(positions: Tensor, tokens: Tensor, length: int, vocabulary: int) -> bool:
    """Whether corrections lie in the text, in rising order, and name tokens of the vocabulary."""
    if len(positions) != len(tokens) or not bool((positions.diff() > 0).all()):
        return False
    inside = not len(positions) or (int(positions[0]) >= 0 and int(positions[-1]) < length)
    return inside and bool(((tokens >= 0) & (tokens < vocabulary)).all())


def _sum(counts: Tensor) -> int:
    return sum(counts.tolist())  # Python integers can't overflow
