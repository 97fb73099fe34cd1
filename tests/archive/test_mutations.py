"""A damaged archive is refused, or it still gives the same bytes: never anything else.

Real archives, mutated at seeded places spread evenly over the length field, the header and the
bytes of each tensor; every one goes through the command line, whose exit code is 0 or 3.
"""

import json
import random
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

import memcram
import tiny
from memcram.cli import run

TEXT = "The Lamp went out at Nine; Nobody noticed.\n"


@dataclass(frozen=True)
class Target:
    """A real archive and the stretches of its bytes, by what they hold."""

    content: bytes
    text: bytes
    regions: dict[str, tuple[int, int]]


def target(archive, text):
    content = archive.to_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    regions = {"length field": (0, 8), "header": (8, end)}
    for name, entry in json.loads(content[8:end]).items():
        if name != "__metadata__" and entry["data_offsets"][0] < entry["data_offsets"][1]:
            first, last = entry["data_offsets"]
            regions[name] = (end + first, end + last)
    assert max(last for _, last in regions.values()) == len(content)
    return Target(content, text.encode(), regions)


@pytest.fixture(scope="module")
def exact(pocket):
    """A short text that pocket holds without any correction."""
    archive = memcram.compress(TEXT, pocket)
    assert archive.summary()["tokens_corrected"] == 0
    return target(archive, TEXT)


@pytest.fixture(scope="module")
def mended(tmp_path_factory):
    """Three steps and a tokenizer that lower-cases: every tensor of the archive holds something."""
    folder = tiny.save_model(
        tmp_path_factory.mktemp("awkward"),
        # Logits close to each other, so that some tokens are right by less than the guard margin.
        tiny.llama_config(initializer_range=0.005),
        tiny.byte_tokenizer(lower_and_strip=True),
    )
    lm = memcram.load_lm(str(folder), device="cpu")
    archive = memcram.compress(TEXT * 4, lm, chunk_tokens=16, steps=3, recipe="direct")
    found = target(archive, TEXT * 4)
    assert set(archive.tensors.named()) <= set(found.regions)
    return found


@pytest.fixture(scope="module")
def packed(pocket):
    """The vectors in as few bits as hold each chunk, next to their scales."""
    archive = memcram.compress(TEXT, pocket, chunk_tokens=6, steps=60, store="least")
    found = target(archive, TEXT)
    assert {"vectors", "vector_scales", "chunk_bits"} <= set(found.regions)
    return found


def flip_a_bit(draw, content, place, _):
    changed = bytearray(content)
    changed[place] ^= 1 << draw.randrange(8)
    return bytes(changed)


def replace_bytes(draw, content, place, end):
    count = min(draw.randint(1, 4), end - place)
    return content[:place] + draw.randbytes(count) + content[place + count :]


def truncate(_, content, place, __):
    return content[:place]


def insert(draw, content, place, _):
    return content[:place] + draw.randbytes(draw.randint(1, 16)) + content[place:]


def remove(draw, content, place, _):
    return content[:place] + content[place + draw.randint(1, 16) :]


def swap_ranges(draw, content, place, end):
    """Bytes of the region change places with as many from anywhere else."""
    count = min(draw.randint(1, 32), end - place, len(content) // 2)
    others = [*range(0, place - count + 1), *range(place + count, len(content) - count + 1)]
    first, second = sorted((place, draw.choice(others)))
    return (
        content[:first]
        + content[second : second + count]
        + content[first + count : second]
        + content[first : first + count]
        + content[second + count :]
    )


MUTATIONS = (flip_a_bit, replace_bytes, truncate, insert, remove, swap_ranges)


def mutations(targets, count, seed):
    """(target, region, changed content), regions and kinds in turn."""
    draw = random.Random(seed)
    regions = [(one, name) for one in targets for name in one.regions]
    for i in range(count):
        one, name = regions[i % len(regions)]
        change = MUTATIONS[i // len(regions) % len(MUTATIONS)]
        first, end = one.regions[name]
        changed = one.content
        while changed == one.content:
            changed = change(draw, one.content, draw.randrange(first, end), end)
        yield one, name, changed


def check_mutations(targets, count, capsys):
    """Decompress mutated archives; return how many of each region were refused and restored."""
    path, out = Path("a.mem.safetensors"), Path("a")
    refused, restored = Counter(), Counter()
    for one, region, changed in mutations(targets, count, seed=count):
        path.write_bytes(changed)
        code = run(["decompress", str(path), "--quiet"])
        _, err = capsys.readouterr()
        assert code in (0, 3), (region, err)
        if code == 0:
            assert out.read_bytes() == one.text, region
            out.unlink()
            restored[region] += 1
        else:
            assert err.startswith("memcram: "), region
            assert err.count("\n") == 1, region
            assert not out.exists(), region
            refused[region] += 1
    assert (refused + restored).total() == count
    return refused, restored


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutations_are_refused_or_restored(
    exact, mended, tmp_path, monkeypatch, capsys, record_property, count
):
    monkeypatch.chdir(tmp_path)
    refused, restored = check_mutations([exact, mended], count, capsys)
    for region in mended.regions:
        record_property("mutations", (count, region, refused[region], restored[region]))


@pytest.mark.slow
def test_mutations_of_packed_vectors(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check_mutations([packed], 1000, capsys)
