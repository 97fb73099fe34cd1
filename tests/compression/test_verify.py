"""The text comes in parts, in its order, and what is wrong is never a whole text."""

import dataclasses
import random
from itertools import pairwise

import pytest

import memcram
from memcram import ArchiveError
from memcram.archive.manifest import TextRecord
from memcram.cli import run
from memcram.compression.verify import restore
from memcram.models import decoding

TEXT = "The Lamp went out at nine; nobody noticed.\r\n\tNaïve café — 語 👩‍👧 " * 3
NAME = "a.mem.safetensors"


@pytest.fixture
def cut(tiny_lm, monkeypatch):
    """Return a function that compresses TEXT in chunks of the given lengths, with corrections."""

    def compressed(lengths):
        def stretches(n, _):
            edges = [0]
            while edges[-1] < n:
                edges.append(min(n, edges[-1] + lengths[len(edges) % len(lengths)]))
            return tuple(pairwise(edges))

        with monkeypatch.context() as patched:
            patched.setattr("memcram.compression.codec.stretches", stretches)
            return memcram.compress(TEXT, tiny_lm, steps=1, chunk_tokens=1)

    return compressed


def with_other_text(archive, text):
    record = TextRecord(**archive.manifest.text.model_dump() | {"sha256": "0" * 64})
    return dataclasses.replace(
        archive, manifest=archive.manifest.model_copy(update={"text": record})
    )


@pytest.mark.parametrize("budget", [1, 50, 200, 8192])
def test_the_parts_of_a_text_are_the_whole_text(tiny_lm, cut, monkeypatch, budget):
    draw = random.Random(budget)
    archive = cut([draw.randint(1, 40) for _ in range(9)])
    monkeypatch.setattr(decoding, "_CPU_BATCH_TOKENS", budget)
    assert tiny_lm.takes_padding
    parts = list(restore(archive, tiny_lm))
    assert b"".join(parts) == TEXT.encode() == memcram.decompress(archive, tiny_lm)
    assert len(parts) > 1
    assert all(parts)


def test_text_comes_as_soon_as_the_leading_chunks_are_decoded(tiny_lm, cut):
    """Of 3, 30 and 3 tokens in turn, the second ends last but is second in the text."""
    archive = cut([3, 30])
    seen = []
    parts = restore(archive, tiny_lm, lambda state: seen.append(state.chunks_done))
    n = len(archive.chunk_tokens)
    assert archive.chunk_tokens[0] > archive.chunk_tokens[1]
    assert TEXT.encode().startswith(next(parts))
    assert seen[-1] < n
    assert b"".join(parts)
    assert seen == list(range(1, n + 1))


def test_a_text_of_one_chunk_is_checked_before_any_of_it_is_given(tiny_lm):
    archive = memcram.compress("A lamp.", tiny_lm, steps=1, chunk_tokens=100)
    assert len(archive.chunk_tokens) == 1
    with pytest.raises(ArchiveError, match="nothing was written"):
        next(restore(with_other_text(archive, "b"), tiny_lm))


def test_the_last_chunk_of_a_wrong_text_is_never_given(tiny_lm, cut):
    wrong = with_other_text(cut([20]), "b")
    given = []
    with pytest.raises(ArchiveError, match=r"SHA-256.*the text before this is wrong"):
        given.extend(restore(wrong, tiny_lm))
    assert 0 < len(b"".join(given)) < len(TEXT.encode()) - 10


def test_a_chunk_that_decodes_wrongly_leaves_no_file(
    tiny_lm, tiny_folder, cut, tmp_path, monkeypatch, capfdbinary
):
    """A correction in the middle is another one; what is before it is right."""
    archive = cut([20])
    tokens = archive.tensors.correction_tokens.clone()
    tokens[len(tokens) // 2] ^= 1
    tensors = dataclasses.replace(archive.tensors, correction_tokens=tokens)
    manifest = archive.manifest.model_copy(update={"tensors_sha256": tensors.sha256()})
    monkeypatch.chdir(tmp_path)
    memcram.Archive(manifest, tensors).write(tmp_path / NAME)
    arguments = ["decompress", NAME, "--model", str(tiny_folder), "--device", "cpu"]
    assert run(arguments) == 3
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    said = capfdbinary.readouterr()
    assert said.out == b""
    assert said.err.count(b"\n") == 1
    assert b"nothing was written" in said.err


@pytest.mark.parametrize("output", ["-", "b"])
def test_a_failure_between_chunks_leaves_no_file(
    tiny_lm, tiny_folder, cut, tmp_path, monkeypatch, capfdbinary, output
):
    monkeypatch.chdir(tmp_path)
    cut([20]).write(tmp_path / NAME)
    monkeypatch.setattr(decoding, "_CPU_BATCH_TOKENS", 40)
    read = decoding._Tape.read

    def failing(tape, chunk):
        if chunk == 4:
            raise KeyboardInterrupt
        return read(tape, chunk)

    monkeypatch.setattr(decoding._Tape, "read", failing)
    arguments = ["decompress", NAME, "-o", output, "--model", str(tiny_folder), "--device", "cpu"]
    assert run(arguments) == 130
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    said = capfdbinary.readouterr()
    if output == "-":
        assert TEXT.encode().startswith(said.out)
        assert b"standard output has only the beginning of the text" in said.err
    assert bool(said.out) == (output == "-")
