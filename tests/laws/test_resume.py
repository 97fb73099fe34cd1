"""Interrupted and resumed is uninterrupted."""

import os
import shutil
from dataclasses import replace
from importlib.metadata import version

import pytest
import safetensors.torch
import torch

import memcram
from interrupts import InterruptAfter
from memcram.archive.partial import Chunk, PartialArchive
from memcram.archive.stored import Storage
from memcram.compression import codec
from memcram.errors import Interrupted

TEXT = "The lamp in the harbour went out at nine, and nobody noticed."


@pytest.mark.parametrize("noted", [False, True], ids=["before", "after"])
def test_an_interruption_counts_the_chunks_that_are_on_disk(pocket, tmp_path, monkeypatch, noted):
    folder = tmp_path / "a.partial"
    added = []
    add = PartialArchive.add

    def interrupted(self, chunk):
        if noted or not added:
            add(self, chunk)
        added.append(chunk)
        if len(added) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(PartialArchive, "add", interrupted)
    with pytest.raises(Interrupted, match=f"{2 if noted else 1} chunks are kept"):
        memcram.compress(TEXT, pocket, partial=folder, chunk_tokens=4, steps=5)
    files = [safetensors.torch.load_file(path) for path in folder.glob("chunks-*")]
    assert sum(len(file["starts"]) for file in files) == (2 if noted else 1)


@pytest.mark.parametrize("chunk_tokens", [None, 8])
def test_resumed_is_uninterrupted(pocket, tmp_path, chunk_tokens):
    settings = {"chunk_tokens": chunk_tokens, "steps": 40, "seed": 1}
    whole = memcram.compress(TEXT, pocket, **settings)
    folder = tmp_path / "a.partial"
    for chunks in (1, 2):
        with pytest.raises(Interrupted, match="are kept"):
            memcram.compress(
                TEXT, pocket, partial=folder, on_progress=InterruptAfter(chunks), **settings
            )
        assert folder.is_dir()
    seen = []
    resumed = memcram.compress(TEXT, pocket, partial=folder, on_progress=seen.append, **settings)
    assert all(state.chunks_done >= 1 for state in seen)  # nothing is done again
    for name, tensor in whole.tensors.named().items():
        assert torch.equal(tensor, resumed.tensors.named()[name]), name
    assert memcram.decompress(resumed, pocket) == TEXT.encode()


def test_a_damaged_part_is_crammed_again(pocket, tmp_path):
    settings = {"chunk_tokens": 8, "steps": 10}
    folder = tmp_path / "a.partial"
    with pytest.raises(Interrupted):
        memcram.compress(TEXT, pocket, partial=folder, on_progress=InterruptAfter(1), **settings)
    parts = sorted(folder.glob("*.safetensors"))
    assert parts
    for path in parts:
        path.write_bytes(path.read_bytes()[:-3])
    resumed = memcram.compress(TEXT, pocket, partial=folder, **settings)
    whole = memcram.compress(TEXT, pocket, **settings)
    assert torch.equal(resumed.tensors.vectors, whole.tensors.vectors)


def test_another_run_is_not_mixed_in(pocket, tmp_path):
    folder = tmp_path / "a.partial"
    settings = {"chunk_tokens": 8, "steps": 10}
    with pytest.raises(Interrupted):
        memcram.compress(TEXT, pocket, partial=folder, on_progress=InterruptAfter(1), **settings)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(memcram.UsageError, match=r"other settings \(plan\).*force=True"):
        memcram.compress(TEXT, pocket, partial=folder, seed=1, **settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    forced = memcram.compress(TEXT, pocket, partial=folder, seed=1, force=True, **settings)
    assert memcram.decompress(forced, pocket) == TEXT.encode()


def test_another_commit_resumes_but_another_release_does_not(pocket, tmp_path, monkeypatch):
    folder = tmp_path / "a.partial"
    settings = {"chunk_tokens": 8, "steps": 10, "partial": folder}

    def installed(memcram_version):
        monkeypatch.setattr(
            codec, "version", lambda name: memcram_version if name == "memcram" else version(name)
        )

    installed("0.1.0.dev7+g1a2b3c4.d20261126")
    with pytest.raises(Interrupted):
        memcram.compress(TEXT, pocket, on_progress=InterruptAfter(1), **settings)
    installed("0.1.1")
    with pytest.raises(memcram.UsageError, match=r"other settings \(memcram\)"):
        memcram.compress(TEXT, pocket, **settings)
    installed("0.1.0")
    resumed = memcram.compress(TEXT, pocket, **settings)
    assert memcram.decompress(resumed, pocket) == TEXT.encode()


def job(seed):
    return {"seed": seed}


def chunk(start):
    return Chunk(start, 1, torch.zeros(1, 4))


def test_two_runs_never_write_one_folder(tmp_path):
    folder = tmp_path / "a.partial"
    first = PartialArchive(folder, job(1))
    second = PartialArchive(folder, job(2))  # neither has a chunk yet, and so no folder
    first.add(chunk(0))
    first.flush()
    with pytest.raises(memcram.UsageError, match=f"is being written by process {os.getpid()};"):
        PartialArchive(folder, job(2), force=True)
    second.add(chunk(5))
    with pytest.raises(memcram.UsageError, match="is being written by process"):
        second.close()
    first.add(chunk(1))
    first.close()
    assert [one.start for one in PartialArchive(folder, job(1)).load()] == [0, 1]


def test_a_run_that_began_beside_another_does_not_add_to_its_chunks(tmp_path):
    folder = tmp_path / "a.partial"
    second = PartialArchive(folder, job(2))
    first = PartialArchive(folder, job(1))
    first.add(chunk(0))
    first.close()
    second.add(chunk(5))
    with pytest.raises(memcram.UsageError, match=r"with other settings \(seed\)"):
        second.close()
    assert [one.start for one in PartialArchive(folder, job(1)).load()] == [0]


def test_a_folder_that_is_dropped_is_dropped_whole(tmp_path):
    folder = tmp_path / "a.partial"
    first = PartialArchive(folder, job(1))
    first.add(chunk(0))
    first.close()
    second = PartialArchive(folder, job(2), force=True)
    assert second.load() == []
    second.add(chunk(5))
    second.close()
    again = PartialArchive(folder, job(2))
    assert [one.start for one in again.load()] == [5]


@pytest.mark.parametrize("name", ["starts", "shortened"])
def test_a_part_with_a_number_in_place_of_a_row_is_skipped(tmp_path, name):
    run = PartialArchive(tmp_path / "a.partial", job(1))
    run.add(replace(chunk(0), storage=Storage("int8", torch.ones(1))))
    run.close()
    [part] = run.folder.glob("chunks-*")
    tensors = safetensors.torch.load(part.read_bytes())
    part.write_bytes(safetensors.torch.save(tensors | {name: torch.tensor(1)}))
    assert run.load() == []


def test_a_folder_that_someone_removed_is_made_again(tmp_path):
    folder = tmp_path / "a.partial"
    run = PartialArchive(folder, job(1))
    run.add(chunk(0))
    run.flush()
    shutil.rmtree(folder)
    run.add(chunk(1))
    run.flush()
    with pytest.raises(memcram.UsageError, match="is being written by process"):
        PartialArchive(folder, job(1))
    run.close()
    assert [one.start for one in PartialArchive(folder, job(1)).load()] == [1]


def test_a_finished_chunk_is_on_disk_while_others_are_worked_on(pocket, tmp_path, monkeypatch):
    """Not only when another one is finished, which may take long."""
    folder = tmp_path / "a.partial"
    keeper = PartialArchive(folder, job(1))
    keeper.add(chunk(0))
    assert not folder.exists()  # less than a second after the last time
    monkeypatch.setattr("memcram.archive.partial._FLUSH_SECONDS", 0.0)
    keeper.flush_if_due()
    assert [one.start for one in keeper.load()] == [0]
    keeper.close()

    asked = []
    monkeypatch.setattr(PartialArchive, "flush_if_due", lambda _: asked.append(1))
    memcram.compress("A lamp.", pocket, chunk_tokens=8, steps=5, partial=tmp_path / "b.partial")
    assert len(asked) > 5  # at each look of the host, and once for the chunk
