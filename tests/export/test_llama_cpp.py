"""Exports to llama.cpp: with a stand-in for it everywhere, with the real one where it is built."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from families import FAMILIES
from safetensors.numpy import load_file

import memcram
import tiny
from export.samples import (
    N_TOKENS,
    StandIn,
    archive_of_random_vectors,
    archive_with_wide_margins,
)
from memcram.cli import run
from memcram.errors import UsageError
from memcram.export import export
from memcram.export.llama_cpp import as_batch, find_scale
from memcram.export.llama_cpp_decode import Runtime
from models import gguf_files

OPEN = "memcram.export.llama_cpp.open_runtime"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", seed=1)


@pytest.fixture
def lm(gguf):
    return memcram.load_lm(str(gguf), device="cpu")


@pytest.fixture
def stand_in(lm, monkeypatch):
    made = StandIn(lm)
    monkeypatch.setitem(sys.modules, "llama_cpp", object())
    monkeypatch.setattr(OPEN, lambda path, positions: made)
    return made


def refused(lm, folder, match):
    with pytest.raises(UsageError, match=match):
        export(archive_of_random_vectors(lm, 2), lm, "llama-cpp", folder / "out")
    assert list(folder.iterdir()) == []


def logit_difference(lm, runtime, scale):
    """Largest difference between a runtime and the model, after random vectors."""
    torch.manual_seed(0)
    mem = torch.randn(3, lm.input_width) * lm.embedding_std
    logits = runtime.logits(*as_batch(mem, lm, scale).values())
    return np.abs(logits - lm.logits(mem[None])[0, -1].numpy()).max()


def test_the_files_hold_the_fields_of_a_batch(stand_in, gguf, tmp_path):
    lm = memcram.load_lm(str(gguf), device="cpu", layout="mem+bos")
    stand_in.lm = lm
    archive = archive_of_random_vectors(lm, 2, 3)
    out = export(archive, lm, "llama-cpp", tmp_path / "out")
    record = json.loads((out / "export.json").read_text())
    assert record["gguf"] == str(gguf)
    assert record["scale"] == 1.0
    for chunk, mem in zip(record["chunks"], archive.mems, strict=True):
        file = load_file(out / chunk)
        assert (file["embd"].dtype, file["pos"].dtype) == (np.float32, np.int32)
        assert file["pos"].tolist() == list(range(len(mem) + 1))
        assert np.array_equal(file["embd"], torch.cat([mem, lm.prefix]).numpy())
        assert record["positions"] >= len(mem) + 1 + N_TOKENS


def test_tokens_that_llama_cpp_decodes_otherwise_are_refused(stand_in, lm, tmp_path):
    stand_in.add = 1
    refused(lm, tmp_path, "^archive: llama.cpp decodes 1 of 1 chunks to other tokens, because")


def test_a_text_that_llama_cpp_detokenizes_otherwise_is_refused(stand_in, lm, tmp_path):
    stand_in.text = lambda ids: b" " + lm.detokenize(ids).encode()
    refused(lm, tmp_path, "^archive: llama.cpp decodes the same tokens, but its tokenizer gives")


def test_a_model_that_is_not_gguf_is_refused(stand_in, tiny_lm, tmp_path):
    refused(tiny_lm, tmp_path, "^archive: made with .*, and llama.cpp runs GGUF files; compress")


def test_a_missing_library_is_named_with_its_extra(lm, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    archive_of_random_vectors(lm, 2).write(tmp_path / "a.mem.safetensors")
    arguments = ["a.mem.safetensors", "-o", "out"]
    monkeypatch.chdir(tmp_path)
    assert run(["export", "llama-cpp", *arguments]) == 2
    said = capsys.readouterr().err
    assert said == (
        "memcram: RUNTIME: exports to llama.cpp need llama_cpp: pip install 'memcram[llama-cpp]'\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.mem.safetensors"]


@pytest.mark.parametrize("factor", ["1", "√width"])
def test_vectors_of_gemma_are_scaled_if_the_runtime_scales_them(factor, tmp_path):
    """Gemma-2 and Gemma-3 in llama.cpp differ in this; transformers scales only embeddings."""
    tiny.save_model(tmp_path / "gemma", FAMILIES["Gemma-2"])
    lm = memcram.load_lm(str(tmp_path / "gemma"), device="cpu")
    runtime = StandIn(lm, factor=1.0 if factor == "1" else lm.input_width**0.5)
    scale = find_scale(lm, runtime)
    assert scale * runtime.factor == pytest.approx(1.0, rel=1e-3)
    assert logit_difference(lm, runtime, scale) < 1e-4
    assert logit_difference(lm, runtime, 2 * scale) > 0.1


# -- the real llama.cpp ---------------------------------------------------------------------------


@pytest.fixture
def llama_cpp():
    reason = "llama-cpp-python is not installed; the extra 'llama-cpp' has it"
    return pytest.importorskip("llama_cpp", reason=reason)


@pytest.mark.parametrize("layout", ["mem", "mem+bos"])
def test_the_script_decodes_with_llama_cpp(llama_cpp, gguf, layout, tmp_path):
    lm = memcram.load_lm(str(gguf), device="cpu", layout=layout)
    archive = archive_with_wide_margins(lm, 0.1)
    out = export(archive, lm, "llama-cpp", tmp_path / "out")
    ran = subprocess.run([sys.executable, out / "decode.py"], capture_output=True, check=True)
    assert ran.stdout == memcram.decompress(archive, lm)


def test_the_script_names_a_wrong_model(llama_cpp, gguf, lm, tmp_path):
    out = export(archive_with_wide_margins(lm, 0.1), lm, "llama-cpp", tmp_path / "out")
    other = gguf_files.write(tmp_path / "other.gguf", seed=2)
    ran = subprocess.run(
        [sys.executable, out / "decode.py", other], capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert ran.stderr.decode() == "the decoded text differs from the one that was exported\n"


@pytest.mark.parametrize(
    ("family", "architecture", "inverse_scale"),
    [("Gemma-2", "gemma2", 128**0.5), ("Gemma-3", "gemma3", 1.0)],
)
def test_llama_cpp_scales_vectors_of_gemma_2_only(
    llama_cpp, family, architecture, inverse_scale, tmp_path
):
    config = copy.deepcopy(FAMILIES[family])
    config.query_pre_attn_scalar = config.head_dim  # a GGUF file has no setting for it
    tiny.save_model(tmp_path / "gemma", config)
    lm = memcram.load_lm(str(tmp_path / "gemma"), device="cpu")
    runtime = Runtime(gguf_files.write_gemma(tmp_path / "gemma.gguf", lm.module, architecture), 40)
    scale = find_scale(lm, runtime)
    assert 1 / scale == pytest.approx(inverse_scale, rel=1e-3)
    assert logit_difference(lm, runtime, scale) < 0.02
    assert logit_difference(lm, runtime, 2 * scale) > 0.1
    runtime.close()
