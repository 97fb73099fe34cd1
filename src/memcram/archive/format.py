"""Read, check and write archives, `NAME.mem.safetensors`.

Everything that grows with the text is a tensor; the rest is in a small JSON manifest. Files are
read and written with the safetensors library; docs/formats.md describes every field. Nothing in an
archive is used before it is checked, and everything is checked before a model is loaded.
"""

import hashlib
import json
import os
import stat
import struct
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memcram.archive.manifest import Manifest, manifest_metadata, parse_manifest
from memcram.archive.pieces import RawPiece
from memcram.archive.stored import PackedVectors, find_problem, unpack_vectors
from memcram.errors import ArchiveError
from memcram.files import check_writable, write_atomically
from memcram.models.modes import DTYPES

MAX_HEADER_BYTES = 256 * 1024
MAX_CHUNK_TOKENS = 2**20
# Raised by safetensors, and by torch (RuntimeError) for shapes it can't hold.
UNREADABLE = (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError)


@dataclass(frozen=True)
class ArchiveTensors:
    """The tensors of an archive.

    Attributes:
        vectors: (all vectors, width) in the archive's dtype, or, if they are packed, (bytes,)
            uint8; see `PackedVectors`.
        chunk_vectors: (chunk,) int32, K of each chunk; sums to `len(vectors)`.
        chunk_tokens: (chunk,) int32, tokens of each chunk.
        chunk_margins: (chunk,) float32, minimum margin (logits) over the tokens that are neither
            corrected nor guarded, infinite if there are none.
        correction_positions: (correction,) int64, increasing, in the joined tokens of all chunks:
            tokens that decode wrongly.
        correction_tokens: (correction,) int32, the true ids there.
        guard_positions, guard_tokens: the same for tokens that decode correctly, but with a
            margin too small to trust on another machine.
        piece_tokens: (piece,) int64, tokens of each piece; a piece is detokenized on its own.
        raw_offsets, raw_removed, raw_lengths: (raw,) int64; see `RawPiece`.
        raw_bytes: (Σ raw_lengths,) uint8.
        vector_scales: (all vectors,) float32; None if the vectors are not packed.
        chunk_bits: (chunk,) uint8, bits per dimension; None if the vectors are not packed.
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
    vector_scales: Tensor | None = None
    chunk_bits: Tensor | None = None

    @property
    def packed(self) -> PackedVectors | None:
        """The vectors, their scales and bits; None if they are not packed."""
        if self.vector_scales is None or self.chunk_bits is None:
            return None
        return PackedVectors(self.vectors, self.vector_scales, self.chunk_bits)

    def named(self) -> dict[str, Tensor]:
        """All tensors by name."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in every.items() if tensor is not None}

    def sha256(self) -> str:
        """Hash (SHA-256, hex) names, dtypes, shapes and bytes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.named().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
            digest.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Archive:
    """A text as vectors, with everything needed to restore every byte.

    Examples:
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
        """Per chunk (K, width), in the dtype of the model; unpacked if they are packed."""
        t, vectors = self.tensors, self.tensors.chunk_vectors.tolist()
        if t.packed is None:
            return list(t.vectors.split(vectors))
        made = self.manifest
        width, dtype = made.model.input_width, DTYPES[made.dtype]
        return unpack_vectors(t.packed, self.store, vectors, width, dtype)

    @property
    def store(self) -> str:
        """Precision in which the vectors are stored."""
        storage = self.manifest.storage
        return self.manifest.dtype if storage is None else storage.store

    @property
    def chunk_tokens(self) -> list[int]:
        """Tokens of each chunk."""
        tokens: list[int] = self.tensors.chunk_tokens.tolist()
        return tokens

    @property
    def raw_pieces(self) -> list[RawPiece]:
        """Raw pieces: bytes that the tokenizer does not round-trip."""
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
        """Counts and sizes, in the fields of `memcram compress --json`."""
        t, text = self.tensors, self.manifest.text
        ends = t.chunk_tokens.long().cumsum(0)
        corrected = torch.searchsorted(ends, t.correction_positions, right=True).unique()
        corrections = [t.correction_positions, t.correction_tokens]
        corrections += [t.guard_positions, t.guard_tokens]
        raw = [t.raw_offsets, t.raw_removed, t.raw_lengths, t.raw_bytes]
        packed = [t.vector_scales, t.chunk_bits]
        stored = [t.vectors, *corrections, *raw, *(x for x in packed if x is not None)]
        vectors, storage = _sum(t.chunk_vectors), self.manifest.storage
        smallest = t.chunk_margins.min().item() if len(t.chunk_margins) else float("inf")
        return {
            "bytes_in": text.bytes,
            "tokens": text.tokens,
            "vectors": vectors,
            "tokens_per_vector": text.tokens / vectors if vectors else None,
            "chunks": len(ends),
            "chunks_exact": len(ends) - len(corrected),
            "tokens_corrected": len(t.correction_positions),
            "tokens_guarded": len(t.guard_positions),
            "raw_bytes": len(t.raw_bytes),
            "bits_stored": sum(8 * x.numel() * x.element_size() for x in stored),
            "min_margin": smallest if smallest < float("inf") else None,
            "store": self.store,
            "bits_per_dimension": self._mean_bits(),
            "chunks_shortened": 0 if storage is None else storage.chunks_shortened,
        }

    def _mean_bits(self) -> float | None:
        """Mean bits per dimension over all vectors, without scales; None without vectors."""
        t = self.tensors
        if not len(t.chunk_vectors):
            return None
        if t.chunk_bits is None:
            return 8.0 * t.vectors.element_size()
        total = (t.chunk_bits.double() * t.chunk_vectors).sum() / t.chunk_vectors.sum()
        return total.item()

    def to_bytes(self) -> bytes:
        """Serialise the archive; the same archive always gives the same bytes."""
        metadata = manifest_metadata(self.manifest)
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.named().items()}
        return _with_sorted_header(safetensors.torch.save(tensors, metadata))

    def write(self, path: str | Path, *, force: bool = False) -> None:
        """Write the archive atomically.

        Raises:
            UsageError: the file exists and `force` is off, or it can't be written.
        """
        check_writable(Path(path), force=force)
        write_atomically(Path(path), self.to_bytes())

    @classmethod
    def read(cls, path: str | Path) -> "Archive":
        """Read and check an archive; no model is loaded.

        Args:
            path: a file, or a pipe such as `/dev/fd/63`.

        Raises:
            ArchiveError: unreadable, not an archive, damaged, or of a newer version.
        """
        try:
            with Path(path).open("rb") as file:
                head = file.read(8 + MAX_HEADER_BYTES)
                header, end = _parse_header(str(path), head)
                status = os.fstat(file.fileno())
                # Only a regular file knows its size before it is read.
                if stat.S_ISREG(status.st_mode) and status.st_size != end + _promised(header):
                    raise ArchiveError(f"{path}: damaged (its size does not match its header)")
                return cls.from_bytes(head + file.read(), str(path))
        except OSError as error:
            raise ArchiveError(f"{path}: {error.strerror or error}") from error

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "archive") -> "Archive":
        """Check and parse the content of an archive file.

        Args:
            data: the whole content.
            name: how errors call it.

        Raises:
            ArchiveError: not an archive, damaged, or of a newer version.
        """
        header, _ = _parse_header(name, data)
        manifest = parse_manifest(name, header.get("__metadata__"))
        try:
            loaded = safetensors.torch.load(data)
        except UNREADABLE as error:
            raise ArchiveError(f"{name}: damaged ({error})") from error
        expected = {field.name for field in fields(ArchiveTensors)}
        if manifest.storage is None:
            expected -= PACKED_ONLY
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
    """Sort the header of a file; the library writes metadata in a random order."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[end:]


def _parse_header(name: str, data: bytes) -> tuple[dict[str, Any], int]:
    """Parse the header of an archive that starts with `data`; also return where it ends."""
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise ArchiveError(f"{name}: not a memcram archive")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{name}: not a memcram archive") from error
    if not isinstance(header, dict):
        raise ArchiveError(f"{name}: not a memcram archive")
    return header, 8 + length


def _promised(header: dict[str, Any]) -> int:
    """Compute the size of the tensors from the header; invalid entries count as 0 bytes."""
    ends = [0]
    for entry in header.values():
        match entry:
            case {"data_offsets": [int(), int() as end]}:
                ends.append(end)
    return max(ends)


# Of every tensor but the vectors, whose dtype the manifest states.
TENSOR_DTYPES = {
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

# Tensors of archives with packed vectors only.
PACKED_ONLY = {"vector_scales", "chunk_bits"}


def _inconsistency(manifest: Manifest, t: ArchiveTensors) -> str | None:
    """Describe the first contradiction between the tensors and the manifest, or return None."""
    named = t.named()
    wrong = [
        n for n, dtype in TENSOR_DTYPES.items() if named[n].dtype != dtype or named[n].dim() != 1
    ]
    if wrong:
        return f"type or shape of {wrong[0]}"
    counts = (t.chunk_vectors, t.chunk_tokens, t.piece_tokens)
    if not all(bool((x > 0).all()) for x in counts):
        return "counts"
    problem = _vectors_problem(manifest, t)
    if problem:
        return problem
    tokens, vocabulary = manifest.text.tokens, manifest.model.vocab_size
    same = len(t.chunk_vectors) == len(t.chunk_tokens) == len(t.chunk_margins)
    raw = len(t.raw_offsets) == len(t.raw_removed) == len(t.raw_lengths)
    checks = {
        "number of chunks": same,
        "length of the chunks": bool((t.chunk_tokens <= MAX_CHUNK_TOKENS).all()),
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


def _vectors_problem(manifest: Manifest, t: ArchiveTensors) -> str | None:
    """Describe the first contradiction between the vectors, their counts and the manifest."""
    width, each = manifest.model.input_width, t.chunk_vectors.tolist()
    if t.packed is not None and manifest.storage is not None:
        problem = find_problem(t.packed, manifest.storage.store, each, width)
        if problem:
            return problem
        dtype = DTYPES[manifest.dtype]
        mems = unpack_vectors(t.packed, manifest.storage.store, each, width, dtype)
        finite = all(bool(mem.isfinite().all()) for mem in mems)
        return None if finite else "values of the vectors"
    if t.vectors.dim() != 2 or str(t.vectors.dtype) != f"torch.{manifest.dtype}":
        return "type or shape of vectors"
    checks = {
        "width of the vectors": t.vectors.shape[1] == width,
        "values of the vectors": bool(t.vectors.isfinite().all()),
        "vectors of the chunks": sum(each) == len(t.vectors),
    }
    return next((name for name, holds in checks.items() if not holds), None)


def _fits(positions: Tensor, tokens: Tensor, length: int, vocabulary: int) -> bool:
    """Whether corrections lie in the text, in increasing order, with ids of the vocabulary."""
    if len(positions) != len(tokens) or not bool((positions.diff() > 0).all()):
        return False
    inside = not len(positions) or (int(positions[0]) >= 0 and int(positions[-1]) < length)
    return inside and bool(((tokens >= 0) & (tokens < vocabulary)).all())


def _sum(counts: Tensor) -> int:
    return sum(counts.tolist())  # Python integers can't overflow
