"""Laws of every exporter, and what adding one takes: a row in the table."""

import sys
from dataclasses import dataclass, replace

import pytest
import torch

import memcram
import memcram.export
from export.samples import StandIn, archive_of_random_vectors, archive_with_wide_margins
from memcram.archive.manifest import StorageRecord
from memcram.archive.stored import Storage, pack_vectors
from memcram.cli import run
from memcram.errors import UsageError
from memcram.export import EXPORTERS, export
from memcram.quantisation import scales_of
from models import gguf_files

every_exporter = pytest.mark.parametrize("runtime", sorted(EXPORTERS))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def models(tiny_folder, gguf):
    """The file or folder of a model that each exporter takes."""
    return {name: gguf if name == "llama-cpp" else tiny_folder for name in EXPORTERS}


@pytest.fixture
def lm(runtime, models, monkeypatch):
    """That model; llama.cpp is replaced by memcram's own decoding."""
    loaded = memcram.load_lm(str(models[runtime]), device="cpu")
    monkeypatch.setitem(sys.modules, "llama_cpp", object())
    monkeypatch.setattr(
        "memcram.export.llama_cpp.open_runtime", lambda path, positions: StandIn(loaded)
    )
    return loaded


@pytest.fixture(scope="module")
def archives(models):
    """An archive of each of these models."""
    made = {
        path: archive_with_wide_margins(memcram.load_lm(str(path), device="cpu"), 0.02)
        for path in set(models.values())
    }
    return {name: made[path] for name, path in models.items()}


@pytest.fixture
def archive(runtime, archives):
    return archives[runtime]


def with_tensors(archive, **changes):
    tensors = replace(archive.tensors, **changes)
    manifest = archive.manifest.model_copy(update={"tensors_sha256": tensors.sha256()})
    return memcram.Archive(manifest, tensors)


def refused(folder, archive, target, runtime, match):
    with pytest.raises(UsageError, match=match):
        export(archive, target, runtime, folder / "out")
    assert list(folder.iterdir()) == []


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@every_exporter
def test_vectors_that_decode_to_another_text_are_refused(runtime, archive, lm, tmp_path):
    vectors = archive.tensors.vectors.clone()
    vectors[0] = -vectors[0]
    changed = with_tensors(archive, vectors=vectors)
    refused(tmp_path, changed, lm, runtime, "archive: the vectors decode to another")


def packed(archive):
    """The archive with its vectors packed in float16, which moves them very little."""
    scales = [scales_of(mem, "float16") for mem in archive.mems]
    storages = [Storage("float16", one) for one in scales]
    stored = pack_vectors(archive.mems, storages)
    storage = {"storage": StorageRecord(store="float16", chunks_shortened=0), "version": 2}
    tensors = replace(
        archive.tensors,
        vectors=stored.packed,
        vector_scales=stored.scales,
        chunk_bits=stored.chunk_bits,
    )
    update = {"tensors_sha256": tensors.sha256(), **storage}
    return memcram.Archive(archive.manifest.model_copy(update=update), tensors)


@every_exporter
def test_packed_vectors_are_exported_like_others(runtime, archive, lm, tmp_path):
    small = packed(archive)
    large = with_tensors(archive, vectors=torch.cat(small.mems))
    assert not torch.equal(large.tensors.vectors, archive.tensors.vectors)
    found = contents(export(small, lm, runtime, tmp_path / "small"))
    wanted = contents(export(large, lm, runtime, tmp_path / "large"))
    vectors = [path for path in found if path.suffix == ".safetensors"]
    assert vectors
    for path in vectors:
        assert found[path] == wanted[tmp_path / "large" / path.relative_to(tmp_path / "small")]


@every_exporter
def test_a_corrected_token_is_refused(runtime, archive, lm, tmp_path):
    # The third token is replaced, as a correction of a text with another third token would do.
    changed = with_tensors(
        archive,
        correction_positions=torch.tensor([2]),
        correction_tokens=torch.tensor([7], dtype=torch.int32),
    )
    refused(tmp_path, changed, lm, runtime, r"archive: decoding misses \d+ tokens")


@every_exporter
def test_raw_bytes_are_refused(runtime, archive, lm, tmp_path):
    changed = with_tensors(
        archive,
        raw_offsets=torch.tensor([0]),
        raw_removed=torch.tensor([1]),
        raw_lengths=torch.tensor([2]),
        raw_bytes=torch.tensor([65, 66], dtype=torch.uint8),
    )
    refused(tmp_path, changed, lm, runtime, "does not round-trip this text")


@every_exporter
def test_another_model_or_dtype_is_refused(
    runtime, archive, lm, pocket, models, tmp_path, tmp_path_factory
):
    refused(tmp_path, archive, pocket, runtime, "made with .* has width 256")
    half = memcram.load_lm(str(models[runtime]), device="cpu", dtype="bfloat16")
    refused(tmp_path, archive, half, runtime, "made in float32")
    with_bos = memcram.load_lm(str(models[runtime]), device="cpu", layout="mem+bos")
    refused(tmp_path, archive, with_bos, runtime, "with layout mem, but")


@every_exporter
@pytest.mark.parametrize("changed", [{"layers": 1}, {"autocast": "bfloat16"}])
def test_a_model_that_other_programs_load_otherwise_is_refused(
    runtime, changed, models, lm, tmp_path
):
    other = memcram.load_lm(str(models[runtime]), device="cpu", **changed)
    archive = archive_of_random_vectors(other, 2)
    refused(tmp_path, archive, other, runtime, "^target: .* was loaded with ")


@every_exporter
def test_a_folder_in_use_is_refused_and_an_empty_one_is_used(runtime, archive, lm, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    export(archive, lm, runtime, folder)
    before = contents(folder)
    assert before
    with pytest.raises(UsageError, match=r"^output: '.*out' is not empty; name a new folder$"):
        export(archive, lm, runtime, folder)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


@every_exporter
def test_the_command_refuses_another_model_in_one_line(
    runtime, archive, lm, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    archive.write("a.mem.safetensors")
    assert run(["export", runtime, "a.mem.safetensors", "-o", "out", "--model", "pocket"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("memcram: ARCHIVE: made with ")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.mem.safetensors"]


def test_an_unknown_runtime_is_refused(tiny_lm, tmp_path):
    archive = archive_of_random_vectors(tiny_lm, 2)
    refused(tmp_path, archive, tiny_lm, "onnx", "^runtime: got 'onnx', allowed: tr")


@dataclass(frozen=True)
class Count:
    """A whole exporter."""

    name: str = "count"
    breaks: bool = False

    def check(self, archive, target):
        pass

    def write(self, archive, target, folder):
        (folder / "count.txt").write_text(f"{len(archive.mems)}\n")
        if self.breaks:
            raise OSError(28, "No space left on device")


def test_a_row_adds_an_exporter_to_the_library_and_the_command(
    tiny_lm, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(EXPORTERS, "count", Count())
    monkeypatch.chdir(tmp_path)
    archive_of_random_vectors(tiny_lm, 2).write("a.mem.safetensors")
    assert run(["export", "count", "a.mem.safetensors", "-o", "out", "--json"]) == 0
    assert '"files": 1' in capsys.readouterr().out
    assert (tmp_path / "out" / "count.txt").read_text() == "1\n"


def test_an_exporter_that_fails_leaves_nothing(tiny_lm, tmp_path, monkeypatch):
    monkeypatch.setitem(EXPORTERS, "count", Count(breaks=True))
    archive = archive_of_random_vectors(tiny_lm, 2)
    refused(tmp_path, archive, tiny_lm, "count", "could not be written .No space left")
