"""The snippet of an export's README is run as it stands, with plain transformers."""

import hashlib
import json

import pytest
from safetensors.torch import load_file

import memcram
import tiny
from export.samples import archive_of_random_vectors, run_readme
from memcram.export import export
from models import gguf_files

TEXT = "The ferry was late. Nobody had lit the lamp at the end of the pier."
MODELS = {
    "llama": (tiny.llama_config, "mem"),
    "llama with BOS": (tiny.llama_config, "mem+bos"),
    "OPT, input width below the hidden size": (tiny.opt_config, "mem"),
}


def test_the_readme_decodes_a_text_of_pocket(pocket, tmp_path, monkeypatch, capsys):
    archive = memcram.compress(TEXT, pocket, chunk_tokens=12)
    folder = export(archive, pocket, "transformers", tmp_path / "out")
    assert len(list(folder.glob("chunk-*.safetensors"))) == len(archive.mems) >= 2
    assert run_readme(folder, monkeypatch, capsys) == TEXT + "\n"


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_decodes_whatever_the_model_generates_by_default(
    name, tmp_path, monkeypatch, capsys
):
    """The model's own settings would sample, penalise repetition and end at the third token."""
    config, layout = MODELS[name]
    folder = tiny.save_model(tmp_path / "model", config())
    lm = memcram.load_lm(str(folder), device="cpu", layout=layout)
    archive = archive_of_random_vectors(lm, 2)
    third = int(lm.generate(archive.mems[0], 3)[2])
    settings = {"eos_token_id": third, "do_sample": True, "repetition_penalty": 2.0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    out = export(archive, lm, "transformers", tmp_path / "out")
    shapes = [tuple(load_file(path)["prompt_embeds"].shape) for path in out.glob("*.safetensors")]
    assert shapes == [(2 + (layout == "mem+bos"), lm.input_width)]
    printed = run_readme(out, monkeypatch, capsys)
    assert hashlib.sha256(printed[:-1].encode()).hexdigest() == archive.manifest.text.sha256


def test_the_readme_loads_a_gguf_file(tmp_path, monkeypatch, capsys):
    file = gguf_files.write(tmp_path / "tiny.gguf")
    lm = memcram.load_lm(str(file), device="cpu")
    out = export(archive_of_random_vectors(lm, 2, 3), lm, "transformers", tmp_path / "out")
    printed = run_readme(out, monkeypatch, capsys)
    sha256 = json.loads((out / "export.json").read_text())["sha256"]
    assert hashlib.sha256(printed[:-1].encode()).hexdigest() == sha256
