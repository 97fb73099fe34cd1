"""Bytes of an archive that is not there yet."""

import hashlib
import json
from dataclasses import dataclass

from memcram.archive.format import CHECKSUM_KEY, MANIFEST_KEY, Manifest

# Bytes an element, and the type's name in a safetensors header.
_I64, _I32, _F32, _U8 = (8, "I64"), (4, "I32"), (4, "F32"), (1, "U8")
_VECTORS = {
    "float64": (8, "F64"),
    "float32": _F32,
    "bfloat16": (2, "BF16"),
    "float16": (2, "F16"),
}
# The library stores tensors by type, in this order, and by name.
_ORDER = ("I64", "F64", "F32", "I32", "BF16", "F16", "U8")


@dataclass(frozen=True)
class ArchiveCounts:
    """How many of each thing an archive holds; `raw_bytes` are those of the raw pieces."""

    vectors: int
    chunks: int
    corrections: int
    guards: int
    pieces: int
    raw_pieces: int
    raw_bytes: int


def archive_bytes(manifest: Manifest, counts: ArchiveCounts) -> int:
    """Size (bytes) of the file with these contents: exactly `len(Archive.to_bytes())`.

    Only the lengths of the manifest's fields matter, so that a checksum yet unknown may be any.
    """
    layout = _layout(manifest, counts)
    encoded = manifest.model_dump_json()
    checksum = hashlib.sha256(encoded.encode()).hexdigest()
    header: dict[str, object] = {"__metadata__": {MANIFEST_KEY: encoded, CHECKSUM_KEY: checksum}}
    end = 0
    for name in sorted(layout, key=lambda name: (_ORDER.index(layout[name][0][1]), name)):
        (size, dtype), shape = layout[name]
        begin = end
        elements = 1
        for length in shape:
            elements *= length
        end += size * elements
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + end


def _layout(
    manifest: Manifest, counts: ArchiveCounts
) -> dict[str, tuple[tuple[int, str], list[int]]]:
    """Type and shape of every tensor by name; see `ArchiveTensors`."""
    chunks, raw = [counts.chunks], [counts.raw_pieces]
    return {
        "vectors": (_VECTORS[manifest.dtype], [counts.vectors, manifest.model.input_width]),
        "chunk_vectors": (_I32, chunks),
        "chunk_tokens": (_I32, chunks),
        "chunk_margins": (_F32, chunks),
        "correction_positions": (_I64, [counts.corrections]),
        "correction_tokens": (_I32, [counts.corrections]),
        "guard_positions": (_I64, [counts.guards]),
        "guard_tokens": (_I32, [counts.guards]),
        "piece_tokens": (_I64, [counts.pieces]),
        "raw_offsets": (_I64, raw),
        "raw_removed": (_I64, raw),
        "raw_lengths": (_I64, raw),
        "raw_bytes": (_U8, [counts.raw_bytes]),
    }
