"""The snippet of an export's README is run as it stands, with plain transformers."""

import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import load_file

import memcram
import tiny
from memcram.archive.format import ArchiveTensors
from memcram.compression.codec import manifest_of
from memcram.export import export

TEXT = "The ferry was late. Nobody had lit the lamp at the end of the pier."
MODELS = {
    "llama": (tiny.llama_config, "mem"),
    "llama with BOS": (tiny.llama_config, "mem+bos"),
    "OPT, input width below the hidden size": (tiny.opt_config, "mem"),
}


def run_readme(folder, monkeypatch, capsys):
    """What the README's snippet prints when it is run in the folder."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(snippet, {})
    return capsys.readouterr().out


def test_the_readme_decodes_a_text_of_pocket(pocket, tmp_path, monkeypatch, capsys):
    archive = memcram.compress(TEXT, pocket, chunk_tokens=12)
    folder = export(archive, pocket, "transformers", tmp_path / "out")
    assert len(list(folder.glob("chunk-*.safetensors"))) == len(archive.mems) >= 2
    assert run_readme(folder, monkeypatch, capsys) == TEXT + "\n"


def archive_of_random_vectors(lm):
    """An archive of what two random vectors decode to."""
    draw = torch.Generator().manual_seed(0)
    mem = torch.randn(2, lm.input_width, generator=draw) * lm.embedding_std
    ids = lm.generate(mem, 24)
    assert len(set(ids.tolist())) >= 4
    none, rare = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    count = torch.tensor([24])
    tensors = ArchiveTensors(
        vectors=mem,
        chunk_vectors=torch.tensor([2], dtype=torch.int32),
        chunk_tokens=count.int(),
        chunk_margins=torch.tensor([0.1]),
        correction_positions=none,
        correction_tokens=rare,
        guard_positions=none,
        guard_tokens=rare,
        piece_tokens=count,
        raw_offsets=none,
        raw_removed=none,
        raw_lengths=none,
        raw_bytes=torch.zeros(0, dtype=torch.uint8),
    )
    text = lm.detokenize(ids.tolist()).encode()
    recipe = memcram.get_recipe("default")
    manifest = manifest_of(lm, recipe.settings(), 0, text, 24)
    manifest = manifest.model_copy(update={"tensors_sha256": tensors.sha256()})
    return memcram.Archive(manifest, tensors)


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_decodes_whatever_the_model_generates_by_default(
    name, tmp_path, monkeypatch, capsys
):
    """The model's own settings would sample, penalise repetition and end at the third token."""
    config, layout = MODELS[name]
    folder = tiny.save_model(tmp_path / "model", config())
    lm = memcram.load_lm(str(folder), device="cpu", layout=layout)
    archive = archive_of_random_vectors(lm)
    third = int(lm.generate(archive.mems[0], 3)[2])
    settings = {"eos_token_id": third, "do_sample": True, "repetition_penalty": 2.0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    out = export(archive, lm, "transformers", tmp_path / "out")
    shapes = [tuple(load_file(path)["prompt_embeds"].shape) for path in out.glob("*.safetensors")]
    assert shapes == [(2 + (layout == "mem+bos"), lm.input_width)]
    printed = run_readme(out, monkeypatch, capsys)
    assert hashlib.sha256(printed[:-1].encode()).hexdigest() == archive.manifest.text.sha256
