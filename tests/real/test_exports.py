"""SmolLM2-135M in transformers and PEFT: every chunk of an export decodes to its tokens."""

import hashlib
import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

import memcram
from export.samples import run_readme
from memcram.cli import run
from memcram.export import read_peft

# PEFT passes no positions on, and asks transformers by a name that it will drop.
pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
]
TEXT = "The old ferryman would not take them across until he had finished his pipe."


@pytest.fixture(scope="module")
def folder(tmp_path_factory, smollm2, smollm2_path):
    """The dequantised model as a folder, an archive of several chunks, and its exports."""
    folder = tmp_path_factory.mktemp("smollm2")
    # Without what says that the weights were in a GGUF file, which is not saved again.
    config = AutoConfig.from_pretrained(
        smollm2_path.parent, gguf_file=smollm2_path.name, local_files_only=True
    )
    copy = AutoModelForCausalLM.from_config(config)
    copy.load_state_dict(smollm2.module.state_dict())
    copy.save_pretrained(folder / "model")
    smollm2.tokenizer.save_pretrained(folder / "model")
    lm = memcram.load_lm(str(folder / "model"), device="cpu")
    archive = memcram.compress(TEXT, lm, vectors=2, chunk_tokens=7)
    archive.write(folder / "text.mem.safetensors")
    for runtime in ("peft", "transformers"):
        arguments = [runtime, str(folder / "text.mem.safetensors"), "-o", str(folder / runtime)]
        assert run(["export", *arguments, "--device", "cpu"]) == 0
    return folder


def test_peft_decodes_every_chunk(folder):
    peft = pytest.importorskip("peft")
    archive = memcram.Archive.read(folder / "text.mem.safetensors")
    lm = memcram.load_lm(str(folder / "model"), device="cpu")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(do_sample=False)
    assert len(archive.mems) >= 3
    for number, (mem, n_tokens) in enumerate(zip(archive.mems, archive.chunk_tokens, strict=True)):
        adapter = folder / "peft" / f"chunk-{number:05}"
        assert torch.equal(read_peft(adapter), mem)
        adapted = peft.PeftModel.from_pretrained(model, adapter)
        start = torch.empty((1, 0), dtype=torch.long)
        new = adapted.generate(input_ids=start, max_new_tokens=n_tokens)
        assert new[0].tolist() == lm.generate(mem, n_tokens).tolist()


@pytest.mark.parametrize("runtime", ["peft", "transformers"])
def test_the_readme_decodes(runtime, folder, monkeypatch, capsys):
    pytest.importorskip(runtime)
    printed = run_readme(folder / runtime, monkeypatch, capsys)
    assert printed == TEXT + "\n"
    export = json.loads((folder / runtime / "export.json").read_text())
    assert hashlib.sha256(TEXT.encode()).hexdigest() == export["sha256"]


def test_a_gguf_file_is_refused(smollm2, tmp_path, capsys):
    archive = memcram.compress("He sat.", smollm2)
    archive.write(tmp_path / "gguf.mem.safetensors")
    arguments = ["peft", str(tmp_path / "gguf.mem.safetensors"), "-o", str(tmp_path / "out")]
    assert run(["export", *arguments, "--device", "cpu"]) == 2
    assert "PEFT does not load GGUF files" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
