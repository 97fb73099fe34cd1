"""Laws of every exporter, and what adding one takes: a row in the table."""

from dataclasses import dataclass, replace

import pytest
import torch

import memcram
import memcram.export
import tiny
from export.samples import archive_of_random_vectors
from memcram.cli import run
from memcram.errors import ArchiveError, UsageError
from memcram.export import EXPORTERS, export

TEXT = "The ferry was late."


@pytest.fixture(scope="module")
def archive(pocket):
    return memcram.compress(TEXT, pocket)


every_exporter = pytest.mark.parametrize("runtime", sorted(EXPORTERS))


def with_tensors(archive, **changes):
    tensors = replace(archive.tensors, **changes)
    manifest = archive.manifest.model_copy(update={"tensors_sha256": tensors.sha256()})
    return memcram.Archive(manifest, tensors)


def refused(error, folder, archive, target, runtime, match):
    with pytest.raises(error, match=match):
        export(archive, target, runtime, folder / "out")
    assert list(folder.iterdir()) == []


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@every_exporter
def test_vectors_that_decode_to_another_text_are_refused(runtime, archive, pocket, tmp_path):
    vectors = archive.tensors.vectors.clone()
    vectors[0] = -vectors[0]
    changed = with_tensors(archive, vectors=vectors)
    refused(UsageError, tmp_path, changed, pocket, runtime, "archive: the vectors decode to anot")


@every_exporter
def test_a_corrected_token_is_refused(runtime, archive, pocket, tmp_path):
    # The third token is replaced, as a correction of a text with another third token would do.
    changed = with_tensors(
        archive,
        correction_positions=torch.tensor([2]),
        correction_tokens=torch.tensor([7], dtype=torch.int32),
    )
    refused(UsageError, tmp_path, changed, pocket, runtime, r"archive: decoding misses \d+ tokens")


@every_exporter
def test_raw_bytes_are_refused(runtime, tmp_path, tmp_path_factory):
    folder = tiny.save_model(
        tmp_path_factory.mktemp("awkward"),
        tiny.llama_config(),
        tiny.byte_tokenizer(lower_and_strip=True),
    )
    lm = memcram.load_lm(str(folder), device="cpu")
    archive = memcram.compress("AB", lm, steps=1, chunk_tokens=64)
    refused(UsageError, tmp_path, archive, lm, runtime, "does not round-trip")


@every_exporter
def test_another_model_or_dtype_is_refused(runtime, archive, tiny_lm, tmp_path):
    refused(ArchiveError, tmp_path, archive, tiny_lm, runtime, "made with pocket")
    half = memcram.load_lm("pocket", device="cpu", dtype="bfloat16")
    refused(ArchiveError, tmp_path, archive, half, runtime, "made in float32")


@every_exporter
@pytest.mark.parametrize("changed", [{"layers": 1}, {"autocast": "bfloat16"}])
def test_a_model_that_other_programs_load_otherwise_is_refused(
    runtime, changed, tiny_folder, tmp_path
):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", **changed)
    archive = archive_of_random_vectors(lm, 2)
    refused(UsageError, tmp_path, archive, lm, runtime, "^target: .* was loaded with ")


@every_exporter
def test_a_folder_in_use_is_refused_and_an_empty_one_is_used(runtime, archive, pocket, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    export(archive, pocket, runtime, folder)
    before = contents(folder)
    assert before
    with pytest.raises(UsageError, match=r"^output: '.*out' is not empty; name a new folder$"):
        export(archive, pocket, runtime, folder)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_an_unknown_runtime_is_refused(archive, pocket, tmp_path):
    refused(UsageError, tmp_path, archive, pocket, "onnx", "^runtime: got 'onnx', allowed: tr")


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
    archive, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(EXPORTERS, "count", Count())
    monkeypatch.chdir(tmp_path)
    archive.write("a.mem.safetensors")
    assert run(["export", "count", "a.mem.safetensors", "-o", "out", "--json"]) == 0
    assert '"files": 1' in capsys.readouterr().out
    assert (tmp_path / "out" / "count.txt").read_text() == "1\n"


def test_an_exporter_that_fails_leaves_nothing(archive, pocket, tmp_path, monkeypatch):
    monkeypatch.setitem(EXPORTERS, "count", Count(breaks=True))
    refused(UsageError, tmp_path, archive, pocket, "count", "could not be written .No space left")
