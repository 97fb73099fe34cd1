"""An archive comes back as it was written; anything else is refused with one line."""

import dataclasses
import hashlib
import json
import struct

import pytest
import safetensors.torch
import torch

import memcram
from memcram import Archive, ArchiveError, UsageError
from memcram.archive.format import MAX_HEADER_BYTES
from memcram.archive.manifest import MAX_MANIFEST_BYTES


@pytest.fixture(scope="module")
def archive(tiny_lm):
    """Two chunks, nearly all tokens corrected: every tensor but the raw ones holds something."""
    return memcram.compress("A lamp, a pier.", tiny_lm, chunk_tokens=8, steps=1)


@pytest.fixture(scope="module")
def content(archive):
    return archive.to_bytes()


def header_end(content):
    return 8 + struct.unpack("<Q", content[:8])[0]


def rebuilt(archive, manifest=None, **tensors):
    """A forgery whose checksums are all right."""
    changed = dataclasses.replace(archive.tensors, **tensors)
    fields = json.loads(archive.manifest.model_dump_json())
    fields["tensors_sha256"] = changed.sha256()
    for path, value in (manifest or {}).items():
        *folders, last = path.split(".")
        inside = fields
        for folder in folders:
            inside = inside[folder]
        inside[last] = value
    return packed(changed.named(), json.dumps(fields))


def packed(tensors, text, checksum=None):
    checksum = checksum or hashlib.sha256(text.encode()).hexdigest()
    return safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        {"memcram": text, "memcram.sha256": checksum},
    )


def refused(content, match=None):
    with pytest.raises(ArchiveError, match=match) as caught:
        Archive.from_bytes(content, "x.mem.safetensors")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("x.mem.safetensors: ")


def test_read_after_write_is_the_identity(archive, tmp_path):
    path = tmp_path / "a.mem.safetensors"
    archive.write(path)
    again = Archive.read(path)
    assert again.manifest == archive.manifest
    for name, tensor in archive.tensors.named().items():
        assert torch.equal(tensor, again.tensors.named()[name]), name
        assert tensor.dtype == again.tensors.named()[name].dtype
    assert again.to_bytes() == path.read_bytes() == archive.to_bytes()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_existing_file_is_kept(archive, tmp_path):
    path = tmp_path / "a.mem.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="force=True"):
        archive.write(path)
    assert path.read_bytes() == b"mine"
    archive.write(path, force=True)
    assert Archive.read(path).manifest == archive.manifest


def test_anyone_can_open_it(content):
    tensors = safetensors.torch.load(content)
    assert tensors["vectors"].shape == (2, 32)
    assert tensors["chunk_tokens"].tolist() == [8, 7]


def test_every_truncation_is_refused(content, tmp_path):
    end = header_end(content)
    lengths = {0, 1, 7, 8, 9, end // 2, end - 1, end, end + 1, len(content) - 1}
    for length in sorted(lengths | set(range(8, len(content), 211))):
        refused(content[:length])
        path = tmp_path / "cut"
        path.write_bytes(content[:length])
        with pytest.raises(ArchiveError):
            Archive.read(path)
    refused(content + b"\0")


def test_every_flipped_byte_is_refused(content):
    end = header_end(content)
    places = [*range(8), *range(8, end, 3), *range(end, len(content), 17), len(content) - 1]
    for place in places:
        for mask in (0x01, 0x80):
            flipped = bytearray(content)
            flipped[place] ^= mask
            # White space that changes nothing but itself is the one harmless flip.
            if flipped[8:end].split() == content[8:end].split() and place < end:
                continue
            refused(bytes(flipped))


def test_a_header_that_lies_about_its_size(content, tmp_path):
    for length in (0, 1, MAX_HEADER_BYTES + 1, 2**40, 2**63, 2**64 - 1):
        refused(struct.pack("<Q", length) + content[8:], "not a memcram archive")
    header = json.loads(content[8 : header_end(content)])
    header["vectors"]["data_offsets"][1] += 10**15
    header["vectors"]["shape"] = [10**12, 32]
    text = json.dumps(header).encode()
    forged = struct.pack("<Q", len(text)) + text + content[header_end(content) :]
    refused(forged)
    (tmp_path / "a").write_bytes(forged)
    with pytest.raises(ArchiveError, match="size"):
        Archive.read(tmp_path / "a")


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [2**62, 0, 2**62], [0, 2**63 - 1]])
def test_a_shape_of_nothing_that_torch_can_not_hold_is_refused(content, shape):
    header = json.loads(content[8 : header_end(content)])
    offsets = header["raw_bytes"]["data_offsets"]
    assert offsets[0] == offsets[1]
    header["raw_bytes"]["shape"] = shape
    text = json.dumps(header).encode()
    refused(struct.pack("<Q", len(text)) + text + content[header_end(content) :])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\x1f\x8b" + b"\0" * 100,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xfe{}",
        struct.pack("<Q", 30000) + b"[" * 30000,
        safetensors.torch.save({"weight": torch.zeros(3)}),
        safetensors.torch.save({"weight": torch.zeros(3)}, {"format": "pt"}),
        packed({"weight": torch.zeros(3)}, "{}"),
        packed({"weight": torch.zeros(3)}, "[1]"),
        packed({"weight": torch.zeros(3)}, "[" * 20000),
        packed({"weight": torch.zeros(3)}, "not json"),
        packed({"weight": torch.zeros(3)}, "{}", checksum="0" * 64),
    ],
    ids=range(14),
)
def test_foreign_files_are_refused(content):
    refused(content)


def test_a_newer_version_says_so(archive):
    refused(rebuilt(archive, {"version": 3}), "version 3, but this memcram reads up to 2")


def test_a_manifest_is_bounded(archive):
    refused(rebuilt(archive, {"recipe": {"x": "y" * MAX_MANIFEST_BYTES}}), "manifest has")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.id", ""),
        ("model.id", 3),
        ("model.id", "pocket\nrestored  yes"),
        ("model.revision", "main\nrestored  yes"),
        ("model.revision", "main\x9b31m"),
        ("model.fingerprint", "0" * 63),
        ("model.input_width", 0),
        ("model.input_width", 31),
        ("model.vocab_size", 5),
        ("text.bytes", 0),
        ("text.tokens", -1),
        ("text.tokens", 14),
        ("text.tokens", 10**30),
        ("text.sha256", "g" * 64),
        ("dtype", "int8"),
        ("dtype", "bfloat16"),
        ("layout", "bos"),
        ("tensors_sha256", "0" * 64),
        ("seed", "1"),
        ("format", "other"),
        ("surprise", 1),
        ("version", "1"),
        ("version", 0),
        ("version", 2),
        ("storage", {"store": "int8", "chunks_shortened": 0}),
    ],
)
def test_a_wrong_manifest_is_refused(archive, path, value):
    refused(rebuilt(archive, {path: value}))


def int32(*values):
    return torch.tensor(values, dtype=torch.int32)


def int64(*values):
    return torch.tensor(values, dtype=torch.int64)


WRONG = {
    "one chunk too many": {"chunk_tokens": int32(8, 7, 1)},
    "tokens do not sum": {"chunk_tokens": int32(8, 8)},
    "no tokens in a chunk": {"chunk_tokens": int32(15, 0)},
    "negative count": {"chunk_tokens": int32(16, -1)},
    "vectors do not sum": {"chunk_vectors": int32(1, 2)},
    "vectors negative": {"chunk_vectors": int32(3, -1)},
    "margins missing": {"chunk_margins": torch.zeros(1)},
    "pieces do not sum": {"piece_tokens": int64(14)},
    "piece of none": {"piece_tokens": int64(15, 0)},
    "sum overflows": {"piece_tokens": int64(2**62, 2**62, 2**62, 2**62, 15)},
    "correction outside": {"correction_positions": int64(15), "correction_tokens": int32(0)},
    "correction negative": {"correction_positions": int64(-1), "correction_tokens": int32(0)},
    "corrections fall": {"correction_positions": int64(2, 1), "correction_tokens": int32(0, 0)},
    "corrections repeat": {"correction_positions": int64(1, 1), "correction_tokens": int32(0, 0)},
    "corrections differ": {"correction_positions": int64(1, 2), "correction_tokens": int32(0)},
    "no such token": {"correction_positions": int64(1), "correction_tokens": int32(257)},
    "token below zero": {"correction_positions": int64(1), "correction_tokens": int32(-1)},
    "raw without bytes": {
        "raw_offsets": int64(0),
        "raw_removed": int64(0),
        "raw_lengths": int64(3),
    },
    "raw columns differ": {"raw_offsets": int64(0)},
    "raw negative": {
        "raw_offsets": int64(-1),
        "raw_removed": int64(0),
        "raw_lengths": int64(0),
    },
    "narrow vectors": {"vectors": torch.zeros(2, 31)},
    "flat vectors": {"vectors": torch.zeros(64)},
    "other dtype": {"vectors": torch.zeros(2, 32, dtype=torch.float16)},
    "not a number": {"vectors": torch.full((2, 32), float("nan"))},
    "infinite": {"vectors": torch.full((2, 32), float("inf"))},
    "float counts": {"chunk_tokens": torch.tensor([8.0, 7.0])},
    "two-dimensional counts": {"chunk_tokens": torch.tensor([[8], [7]], dtype=torch.int32)},
    "scalar counts": {"chunk_tokens": torch.tensor(15, dtype=torch.int32)},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_wrong_counts_are_refused_even_with_right_checksums(archive, change):
    # The checksum can't be taken over a scalar by the writer; the reader must still refuse it.
    if any(tensor.dim() == 0 for tensor in change.values()):
        fields = json.loads(archive.manifest.model_dump_json())
        refused(packed(archive.tensors.named() | change, json.dumps(fields)))
    else:
        refused(rebuilt(archive, **change))


def test_a_tensor_missing_or_unknown_is_refused(archive):
    text = archive.manifest.model_dump_json()
    named = archive.tensors.named()
    refused(packed(named | {"more": torch.zeros(1)}, text), "more")
    del named["vectors"]
    refused(packed(named, text), "vectors")


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_path_that_is_no_file(tmp_path, name):
    with pytest.raises(ArchiveError):
        Archive.read(tmp_path / name)
