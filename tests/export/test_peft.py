"""Exports are decoded, and imports trained, by the real PEFT library."""

import hashlib
import json

import pytest
import safetensors.torch
import torch
from families import FAMILIES
from transformers import AutoModelForCausalLM, GenerationConfig

import memcram
import tiny
from export.samples import N_TOKENS, archive_of_random_vectors, run_readme
from memcram.cli import run
from memcram.errors import UsageError
from memcram.export import export, read_peft
from memcram.models.frozen_lm import ModelIdentity
from models import gguf_files

# PEFT passes no positions on, and asks transformers by a name that it will drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
]
MODELS = {
    "Llama": (tiny.llama_config(), "mem"),
    "Llama with BOS": (tiny.llama_config(), "mem+bos"),
    "GPT-NeoX": (FAMILIES["GPT-NeoX (Pythia)"], "mem"),
    "OPT, input width below the hidden size": (tiny.opt_config(), "mem"),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def peft():
    return pytest.importorskip("peft", reason="peft is not installed; the extra 'peft' has it")


def make(name, folder):
    """A tiny model with a default to end at a token of the text, and an archive of two chunks."""
    config, layout = MODELS[name]
    tiny.save_model(folder, config)
    lm = memcram.load_lm(str(folder), device="cpu", layout=layout)
    archive = archive_of_random_vectors(lm, 2, 3)
    third = int(lm.generate(archive.mems[0], 3)[2])
    settings = {"eos_token_id": third, "do_sample": True, "repetition_penalty": 2.0}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return lm, archive


def plain_model(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config = GenerationConfig(do_sample=False, bos_token_id=0)
    return model


@every_model
def test_peft_decodes_every_chunk(peft, name, tmp_path):
    lm, archive = make(name, tmp_path / "model")
    out = export(archive, lm, "peft", tmp_path / "out")
    start = torch.tensor([[lm.bos_id] if lm.layout == "mem+bos" else []], dtype=torch.long)
    chunks = list(json.loads((out / "export.json").read_text())["chunks"])
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == chunks
    for chunk, mem in zip(chunks, archive.mems, strict=True):
        adapted = peft.PeftModel.from_pretrained(plain_model(tmp_path / "model"), out / chunk)
        new = adapted.generate(input_ids=start, max_new_tokens=N_TOKENS)[0, start.shape[1] :]
        tokens = lm.generate(mem, N_TOKENS).tolist()
        assert new.tolist() == tokens
        # Without ids the model's BOS follows the vectors, which is another layout.
        with_bos = adapted.generate(max_new_tokens=N_TOKENS)[0, -N_TOKENS:].tolist()
        assert (with_bos == tokens) == (lm.layout == "mem+bos")


@every_model
def test_the_readme_decodes(peft, name, tmp_path, monkeypatch, capsys):
    lm, archive = make(name, tmp_path / "model")
    out = export(archive, lm, "peft", tmp_path / "out")
    printed = run_readme(out, monkeypatch, capsys)
    assert hashlib.sha256(printed[:-1].encode()).hexdigest() == archive.manifest.text.sha256


@every_model
def test_what_is_imported_is_what_was_exported(name, tmp_path):
    lm, archive = make(name, tmp_path / "model")
    out = export(archive, lm, "peft", tmp_path / "out")
    for number, mem in enumerate(archive.mems):
        assert torch.equal(read_peft(out / f"chunk-{number:05}"), mem)


def test_half_precision_is_kept(peft, tiny_folder, tmp_path, monkeypatch, capsys):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype="bfloat16")
    archive = archive_of_random_vectors(lm, 2)
    out = export(archive, lm, "peft", tmp_path / "out")
    mem = read_peft(out / "chunk-00000")
    assert mem.dtype == torch.bfloat16
    assert torch.equal(mem, archive.mems[0])
    printed = run_readme(out, monkeypatch, capsys)
    assert hashlib.sha256(printed[:-1].encode()).hexdigest() == archive.manifest.text.sha256


@pytest.mark.parametrize("model", ["pocket", "relative"])
def test_peft_finds_the_base_model_from_any_folder(peft, model, tmp_path, monkeypatch):
    """By the adapter alone: a packaged model by its path, a local one by its absolute path."""
    monkeypatch.chdir(tmp_path)
    if model == "relative":
        tiny.save_model(tmp_path / model, tiny.llama_config())
    lm = memcram.load_lm(model, device="cpu")
    out = export(archive_of_random_vectors(lm, 2), lm, "peft", tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(out / "chunk-00000")
    assert adapted.get_base_model().get_input_embeddings().weight.shape[1] == lm.input_width


def test_a_hub_model_keeps_its_id_and_commit(tiny_lm, tmp_path, monkeypatch):
    archive = archive_of_random_vectors(tiny_lm, 2)
    hub = ModelIdentity("someone/some-model", "c0ffee", tiny_lm.identity.fingerprint)
    monkeypatch.setattr(tiny_lm, "identity", hub)
    out = export(archive, tiny_lm, "peft", tmp_path / "out")
    config = json.loads((out / "chunk-00000" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "someone/some-model"
    assert config["revision"] == "c0ffee"
    assert "'someone/some-model', {'revision': 'c0ffee'}" in (out / "README.md").read_text()


# -- models that PEFT cannot use ------------------------------------------------------------------


def refused_export(lm, folder, match):
    with pytest.raises(UsageError, match=match):
        export(archive_of_random_vectors(lm, 2), lm, "peft", folder / "out")
    assert not (folder / "out").exists()


def test_a_recurrent_model_is_refused(tmp_path):
    tiny.save_model(tmp_path / "mamba", FAMILIES["Mamba"])
    lm = memcram.load_lm(str(tmp_path / "mamba"), device="cpu")
    refused_export(lm, tmp_path, "^archive: .* is recurrent, and PEFT supports prompts only for")


def test_float64_is_refused(tiny_lm64, tmp_path):
    refused_export(tiny_lm64, tmp_path, "^archive: made in float64, which PEFT rounds to float32$")


def test_a_gguf_file_is_refused(tmp_path):
    lm = memcram.load_lm(str(gguf_files.write(tmp_path / "tiny.gguf")), device="cpu")
    refused_export(lm, tmp_path, r"^archive: .*tiny.gguf', and PEFT does not load GGUF files")


# -- prompts of PEFT ------------------------------------------------------------------------------


@pytest.fixture
def trained(peft, tiny_folder, tmp_path):
    """A prompt of three vectors after a step of training, and its adapter's folder."""
    kind = peft.TaskType.CAUSAL_LM
    config = peft.PromptTuningConfig(task_type=kind, num_virtual_tokens=3)
    torch.manual_seed(0)
    adapted = peft.get_peft_model(plain_model(tiny_folder), config)
    ids = torch.tensor([[5, 9, 20, 31]])
    adapted(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(adapted.parameters(), lr=1.0).step()
    adapted.save_pretrained(tmp_path / "adapter")
    return adapted, tmp_path / "adapter"


def test_a_trained_prompt_is_imported_and_decodes_alike(trained, tiny_lm):
    adapted, folder = trained
    mem = read_peft(folder)
    assert torch.equal(mem, adapted.prompt_encoder["default"].embedding.weight.detach())
    start = torch.empty((1, 0), dtype=torch.long)
    new = adapted.eval().generate(input_ids=start, max_new_tokens=12)
    assert tiny_lm.generate(mem, 12).tolist() == new[0].tolist()


def test_the_command_writes_the_vectors(tmp_path, tiny_lm, capsys):
    archive = archive_of_random_vectors(tiny_lm, 2)
    out = export(archive, tiny_lm, "peft", tmp_path / "out")
    target = tmp_path / "prompt.safetensors"
    arguments = ["import", "peft", str(out / "chunk-00000"), "-o", str(target)]
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {"output": str(target), "vectors": 2, "width": 32, "dtype": "float32"}
    written = safetensors.torch.load_file(target)
    assert list(written) == ["mem"]
    assert torch.equal(written["mem"], archive.mems[0])


ADAPTER = {"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
ADAPTER |= {"token_dim": 4}
VECTORS = {"prompt_embeddings": torch.ones(2, 4)}
WRONG = {
    "no such folder": (None, None, "has no adapter_config.json; name the folder of a PEFT adapter"),
    "LoRA": (ADAPTER | {"peft_type": "LORA"}, VECTORS, "peft_type 'LORA', allowed: PROMPT_TUNING"),
    "prefix": (ADAPTER | {"peft_type": "PREFIX_TUNING"}, VECTORS, "peft_type 'PREFIX_TUNING', al"),
    "an encoder-decoder": (ADAPTER | {"task_type": "SEQ_2_SEQ_LM"}, VECTORS, "allowed: CAUSAL_LM"),
    "no task": ({"peft_type": "PROMPT_TUNING"}, VECTORS, "task_type None, allowed: CAUSAL_LM"),
    "a damaged config": (b'{"peft_type"', VECTORS, "has a damaged adapter_config.json"),
    "a config that is not text": (b"\xff\xfe\x00", VECTORS, "has a damaged adapter_config.json"),
    "a list": (b"[]", VECTORS, "has a damaged adapter_config.json (not a JSON object)"),
    "no weights": (ADAPTER, None, "has no readable adapter_model.safetensors"),
    "cut weights": (
        ADAPTER,
        safetensors.torch.save(VECTORS)[:-1],
        "has no readable adapter_model.safetensors",
    ),
    "no vectors": (ADAPTER, {"x": torch.ones(2, 4)}, "other tensors than prompt_embeddings (x)"),
    "a changed head": (ADAPTER, VECTORS | {"head": torch.ones(1)}, "(head, prompt_embeddings)"),
    "fewer vectors": (ADAPTER | {"num_virtual_tokens": 3}, VECTORS, "of shape (2, 4), but its ad"),
    "another width": (ADAPTER | {"token_dim": 5}, VECTORS, "config.json says (2, 5)"),
    "one dimension": (ADAPTER, {"prompt_embeddings": torch.ones(8)}, "of shape (8,), but its ad"),
    "NaN": (ADAPTER, {"prompt_embeddings": torch.full((2, 4), torch.nan)}, "not finite numbers"),
    "integers": (ADAPTER, {"prompt_embeddings": torch.ones(2, 4).int()}, "not finite numbers"),
}


def refused_import(folder, tmp_path, capsys, message):
    capsys.readouterr()  # progress bars of libraries
    before = sorted(tmp_path.rglob("*"))
    assert run(["import", "peft", str(folder), "-o", str(tmp_path / "x.safetensors")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"memcram: DIR: {str(folder)!r} ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_a_prompt_is_refused(name, tmp_path, capsys):
    config, weights, message = WRONG[name]
    folder = tmp_path / "adapter"
    if config is not None:
        folder.mkdir()
        content = config if isinstance(config, bytes) else json.dumps(config).encode()
        (folder / "adapter_config.json").write_bytes(content)
    if weights is not None:
        content = weights if isinstance(weights, bytes) else safetensors.torch.save(weights)
        (folder / "adapter_model.safetensors").write_bytes(content)
    refused_import(folder, tmp_path, capsys, message)


def test_adapters_that_peft_wrote_are_refused(peft, trained, tiny_folder, tmp_path, capsys):
    lora = peft.get_peft_model(plain_model(tiny_folder), peft.LoraConfig(task_type="CAUSAL_LM"))
    lora.save_pretrained(tmp_path / "lora")
    refused_import(tmp_path / "lora", tmp_path, capsys, "peft_type 'LORA'")
    trained[0].save_pretrained(tmp_path / "pickled", safe_serialization=False)
    message = "has only pickled weights (adapter_model.bin), which memcram never opens"
    refused_import(tmp_path / "pickled", tmp_path, capsys, message)
