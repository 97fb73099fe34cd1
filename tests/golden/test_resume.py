"""A compression that an earlier memcram began: its finished chunks are used, the rest is done."""

import json
import re
import shutil
from importlib.metadata import version

import pytest
import safetensors.torch
import torch

import memcram
from golden import frozen
from golden.frozen import STAGE, run

COMMAND = ["compress", "long.txt", "-o", "long.mem.safetensors", "--device", "cpu", "--json"]
SAME = ["--chunk-tokens", "6", "--steps", "40"]
MADE_WITH = json.loads((STAGE / "long.partial/job.json").read_text())["memcram"]

pytestmark = pytest.mark.skipif(
    re.match(r"\d+(\.\d+)*", version("memcram"))[0] != MADE_WITH,
    reason="chunks are not used by another release of memcram",
)


def finished(folder):
    """Tokens and vectors of each finished chunk by its first token."""
    found = {}
    for path in folder.glob("chunks-*.safetensors"):
        part = safetensors.torch.load(path.read_bytes())
        mems = part["vectors"].split(part["vectors_each"].tolist())
        for start, tokens, mem in zip(
            part["starts"].tolist(), part["tokens"].tolist(), mems, strict=True
        ):
            found[start] = (tokens, mem.clone())
    return found


def disturb(folder):
    """Move all finished vectors a little, so that no run would find the very same ones."""
    for path in folder.glob("chunks-*.safetensors"):
        part = safetensors.torch.load(path.read_bytes())
        part["vectors"] += 1e-3
        path.write_bytes(safetensors.torch.save(part))


def test_finished_chunks_are_in_the_archive_bit_for_bit(stage):
    disturb(stage / "long.partial")
    kept = finished(stage / "long.partial")
    report = run(*COMMAND, *SAME).report
    assert 0 < len(kept) < report["chunks"]
    archive = memcram.Archive.read(stage / "long.mem.safetensors")
    lengths, starts = archive.tensors.chunk_tokens.tolist(), [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    vectors = dict(zip(starts[:-1], archive.tensors.vectors.split(1), strict=True))
    for start, (tokens, mem) in kept.items():
        assert lengths[starts.index(start)] == tokens
        assert torch.equal(vectors[start], mem)
    assert not (stage / "long.partial").exists()
    assert (
        run("decompress", "long.mem.safetensors", "-o", "-").out
        == (stage / "long.txt").read_bytes()
    )


def test_chunks_of_other_settings_are_refused_and_kept(stage):
    other = ["--chunk-tokens", "6", "--steps", "41"]
    before = finished(stage / "long.partial")
    assert run(*COMMAND, *other).code == 2
    assert not (stage / "long.mem.safetensors").exists()
    assert finished(stage / "long.partial").keys() == before.keys()


def test_chunks_of_a_recipe_whose_source_was_reworded_are_used(stage):
    path = stage / "long.partial/job.json"
    job = json.loads(path.read_text())
    path.write_text(json.dumps(job | {"recipe": job["recipe"] | {"source": "other words"}}))
    assert run(*COMMAND, *SAME).code == 0


def test_what_an_interruption_leaves_today(stage):
    """The same job, and files of the same names and tensors."""
    shutil.rmtree(stage / "long.partial")
    frozen.break_off(1)
    job = json.loads((STAGE / "long.partial/job.json").read_text())
    assert json.loads((stage / "long.partial/job.json").read_text()) == job
    parts = list((stage / "long.partial").glob("chunks-*.safetensors"))
    assert parts
    layout = json.loads(frozen.expected("tensors.json"))["long.partial/*.safetensors"]
    for part in parts:
        assert frozen.header(part) == layout
        first = min(safetensors.torch.load_file(part)["starts"].tolist())
        assert part.stem == f"chunks-{first:09d}"
