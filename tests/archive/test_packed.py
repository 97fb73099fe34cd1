"""Packed vectors: every field is hostile, even under valid checksums."""

import dataclasses
import hashlib
import json

import pytest
import safetensors.torch
import torch

import memcram
from memcram import Archive, ArchiveError


@pytest.fixture(scope="module")
def archive(tiny_lm):
    """Two chunks of one vector of width 32, in 4 bits."""
    return memcram.compress("A lamp, a pier.", tiny_lm, chunk_tokens=8, steps=1, store="int4")


def forged(archive, storage=None, version=2, **tensors):
    """The archive with other tensors and another storage, and valid checksums."""
    changed = dataclasses.replace(archive.tensors, **tensors)
    fields = json.loads(archive.manifest.model_dump_json())
    fields |= {"tensors_sha256": changed.sha256(), "version": version}
    fields["storage"] = fields["storage"] | (storage or {})
    text = json.dumps(fields)
    metadata = {"memcram": text, "memcram.sha256": hashlib.sha256(text.encode()).hexdigest()}
    return safetensors.torch.save(changed.named(), metadata)


def test_nothing_forged_is_read(archive):
    found = Archive.from_bytes(forged(archive))
    assert [mem.shape for mem in found.mems] == [(1, 32)] * 2
    assert len(found.tensors.vectors) == 2 * 16


def bits(*values):
    return torch.tensor(values, dtype=torch.uint8)


INF, NAN = float("inf"), float("nan")
WRONG = {
    "scale of 0": ({"vector_scales": torch.tensor([1.0, 0.0])}, "scales"),
    "negative scale": ({"vector_scales": torch.tensor([1.0, -1.0])}, "scales"),
    "infinite scale": ({"vector_scales": torch.tensor([1.0, INF])}, "scales"),
    "scale is not a number": ({"vector_scales": torch.tensor([1.0, NAN])}, "scales"),
    "values overflow": ({"vector_scales": torch.tensor([1.0, 3e38])}, "values"),
    "one scale missing": ({"vector_scales": torch.ones(1)}, "number of scales"),
    "scales in float64": ({"vector_scales": torch.ones(2).double()}, "vector_scales"),
    "scales in two dimensions": ({"vector_scales": torch.ones(2, 1)}, "vector_scales"),
    "other bits": ({"chunk_bits": bits(4, 5)}, "bits"),
    "no bits": ({"chunk_bits": bits(4, 0)}, "bits"),
    "255 bits": ({"chunk_bits": bits(4, 255)}, "bits"),
    "one chunk's bits missing": ({"chunk_bits": bits(4)}, "bits"),
    "bits in int32": ({"chunk_bits": bits(4, 4).int()}, "chunk_bits"),
    "a byte missing": ({"vectors": torch.zeros(31, dtype=torch.uint8)}, "length"),
    "a byte too many": ({"vectors": torch.zeros(33, dtype=torch.uint8)}, "length"),
    "vectors not packed": ({"vectors": torch.zeros(2, 32)}, "vectors"),
    "vectors in rows": ({"vectors": torch.zeros(2, 16, dtype=torch.uint8)}, "vectors"),
    "more vectors than scales": (
        {"chunk_vectors": torch.tensor([1, 2**31 - 1], dtype=torch.int32)},
        "number of scales",
    ),
    "no vectors": ({"chunk_vectors": torch.tensor([2, 0], dtype=torch.int32)}, "counts"),
}


@pytest.mark.parametrize(("tensors", "problem"), WRONG.values(), ids=WRONG.keys())
def test_wrong_tensors_are_refused(archive, tensors, problem):
    with pytest.raises(ArchiveError, match=f"^x: inconsistent .*{problem}"):
        Archive.from_bytes(forged(archive, **tensors), "x")


@pytest.mark.parametrize(
    "storage",
    [
        {"store": "int3"},
        {"store": "int8"},
        {"store": "float64"},
        {"store": None},
        {"chunks_shortened": -1},
        {"chunks_shortened": "1"},
        {"surprise": 1},
    ],
)
def test_a_wrong_storage_is_refused(archive, storage):
    with pytest.raises(ArchiveError):
        Archive.from_bytes(forged(archive, storage=storage), "x")


def test_version_1_has_no_storage(archive):
    with pytest.raises(ArchiveError, match="version and storage disagree"):
        Archive.from_bytes(forged(archive, version=1), "x")


def test_the_tensors_of_both_versions_are_not_mixed(archive):
    fields = json.loads(archive.manifest.model_dump_json())
    del fields["storage"]
    text = json.dumps(fields | {"version": 1})
    metadata = {"memcram": text, "memcram.sha256": hashlib.sha256(text.encode()).hexdigest()}
    content = safetensors.torch.save(archive.tensors.named(), metadata)
    with pytest.raises(ArchiveError, match="chunk_bits"):
        Archive.from_bytes(content, "x")


def test_infinite_float16_codes_are_refused(tiny_lm):
    made = memcram.compress("A lamp", tiny_lm, chunk_tokens=8, steps=1, store="float16")
    codes = torch.full((32,), INF, dtype=torch.float16).view(torch.uint8)
    with pytest.raises(ArchiveError, match="values"):
        Archive.from_bytes(forged(made, vectors=codes), "x")
