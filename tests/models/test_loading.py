"""Ways to name and load a model, and one line for each that fails."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
from huggingface_hub import errors as hub
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import memcram
from memcram import ModelError, UsageError
from memcram.models import loading, model_shape


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """A copy of the tiny model to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def refused(name, **arguments):
    with pytest.raises((ModelError, UsageError)) as caught:
        memcram.load_lm(str(name), device=arguments.pop("device", "cpu"), **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_packaged_model_loads_by_name_and_by_folder(pocket):
    by_folder = memcram.load_lm(str(memcram.packaged_models()["pocket"]), device="cpu")
    assert by_folder.identity.fingerprint == pocket.identity.fingerprint
    assert pocket.identity.id == "pocket"
    assert pocket.identity.revision is None


def test_local_folder_loads(tiny_lm, tiny_folder):
    assert tiny_lm.identity.id == str(tiny_folder)
    assert (tiny_lm.input_width, tiny_lm.vocab_size, tiny_lm.max_positions) == (32, 257, 128)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_dtype_is_what_was_asked_for(tiny_folder, dtype):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype=dtype)
    assert lm.dtype == getattr(torch, dtype)
    assert {p.dtype for p in lm.module.parameters()} == {lm.dtype}


def test_dtypes_and_devices_of_torch_are_accepted(tiny_folder):
    lm = memcram.load_lm(str(tiny_folder), device=torch.device("cpu"), dtype=torch.bfloat16)
    assert (lm.device, lm.dtype) == (torch.device("cpu"), torch.bfloat16)
    cast = memcram.load_lm(str(tiny_folder), device="cpu", autocast=torch.bfloat16)
    assert cast.dtype_name == "float32+bfloat16"


def test_a_cuda_device_turns_tf32_off(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    parts = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [part.allow_tf32 for part in parts]
    try:
        for part in parts:
            part.allow_tf32 = True
        loading._device("cuda")
        assert not any(part.allow_tf32 for part in parts)
    finally:
        for part, value in zip(parts, before, strict=True):
            part.allow_tf32 = value


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_what_was_asked_for(tiny_folder, attention):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", attention=attention)
    assert lm.module.config._attn_implementation == attention


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("dtype", "int8", "float32, bfloat16, float16, float64"),
        ("dtype", torch.int8, "float32, bfloat16, float16, float64"),
        ("autocast", torch.float64, "bfloat16, float16"),
        ("attention", "fast", "sdpa, eager, flash_attention_2"),
        ("layout", "bos", "mem, mem+bos"),
        ("device", "tpu", "cpu"),
        ("device", "cpu:9", "cpu"),
        ("device", "cuda:99", "cpu"),
        ("device", "meta", "cpu"),
    ],
)
def test_wrong_choice_names_what_was_given_and_what_is_allowed(argument, value, allowed):
    message = refused("pocket", **{argument: value})
    assert argument in message
    assert repr(value) in message
    assert allowed in message


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "a/b/c", "../x", "a b", "", "--x", "x" * 300]
)
def test_name_of_no_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refused(name)
    assert "pocket" in message or "config.json" in message


def test_home_folder_of_an_unknown_user():
    assert "not a folder" in refused("~no-such-user-here/model")


@pytest.mark.parametrize("name", ["pocket", "folder"])
def test_revision_is_only_for_hub_models(name, folder):
    message = refused("pocket" if name == "pocket" else folder, revision="main")
    assert message.startswith("revision: got 'main'")


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "no weights (model.safetensors" in refused(folder)


def test_pickled_weights_only(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    message = refused(folder)
    assert "pickled" in message
    assert "save_pretrained" in message


def test_no_config(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused(folder)


@pytest.mark.parametrize("denied", ["open", "iterdir"])
def test_a_folder_that_may_not_be_read(folder, monkeypatch, denied):
    whole = getattr(Path, denied)

    def refuse(self, *args, **kwargs):
        if self == folder or self.parent == folder:
            raise PermissionError(13, "Permission denied")
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(Path, denied, refuse)
    if denied == "open":
        assert f"{folder}: can't be read (Permission denied)" in refused(folder)
    else:  # there is no need to list it
        assert memcram.load_lm(str(folder), device="cpu").layers == 2


def test_no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refused(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "config.json is truncated or damaged"),
        ("{", "config.json is truncated or damaged"),
        ("[]", "config.json is not a JSON object"),
        ('{"model_type": "no-such-type"}', "could not be loaded"),
    ],
)
def test_damaged_config(folder, content, message):
    (folder / "config.json").write_text(content)
    assert message in refused(folder)


def test_weights_without_a_tensor(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    lost = sorted(tensors)[3]
    del tensors[lost]
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    message = refused(folder)
    assert "lack 1 tensors" in message
    assert lost in message


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    assert str(folder) in refused(folder)


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_truncated_weights(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.safetensors is truncated or damaged" in refused(folder)


@pytest.mark.parametrize(
    "full",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("where", ["from_pretrained", "to", "forward"])
def test_out_of_memory_is_one_line(folder, monkeypatch, full, where):
    def refuse(*_, **__):
        raise full

    owner = AutoModelForCausalLM if where == "from_pretrained" else LlamaForCausalLM
    monkeypatch.setattr(owner, where, refuse)
    message = refused(folder)
    assert message.startswith(f"{folder}: out of memory while the model was loaded")


def error(kind):
    """Make a hub error with a message of two lines, without the HTTP response it requires."""
    raised = kind.__new__(kind)
    raised.args = ("first line\nsecond line",)
    return raised


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        (hub.GatedRepoError, "hf auth login"),
        (hub.RepositoryNotFoundError, "check the spelling"),
        (hub.RevisionNotFoundError, "no revision 'v9'"),
        (hub.LocalEntryNotFoundError, "pass a local folder"),
        (hub.OfflineModeIsEnabled, "pass a local folder"),
        (hub.HfHubHTTPError, "download failed"),
        (OSError, "download failed"),
    ],
)
def test_errors_of_the_hub(monkeypatch, kind, advice):
    def refuse(*_, **__):
        raise error(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    message = refused("someone/some-model", revision="v9")
    assert "someone/some-model" in message
    assert advice in message


def test_hub_id_loads_like_a_folder(monkeypatch, folder):
    asked = {}

    def download(name, **arguments):
        asked[name] = arguments
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    lm = memcram.load_lm("someone/some-model", revision="v9", device="cpu")
    assert asked["someone/some-model"]["revision"] == "v9"
    assert not any(".bin" in pattern for pattern in asked["someone/some-model"]["allow_patterns"])
    assert lm.identity.id == "someone/some-model"
    assert lm.identity.revision == folder.name  # the hub's cache names a snapshot by its commit


def test_model_shape_needs_no_weights(folder):
    (folder / "model.safetensors").unlink()
    assert model_shape(str(folder)) == (32, 257)
    assert model_shape("pocket") == (256, 4096)


def test_keeping_all_layers_is_the_whole_model(tiny_folder, tiny_lm):
    whole = memcram.load_lm(str(tiny_folder), device="cpu", layers=2)
    assert whole.identity == tiny_lm.identity
    short = memcram.load_lm(str(tiny_folder), device="cpu", layers=1)
    again = memcram.load_lm(str(tiny_folder), device="cpu", layers=1)
    assert short.identity == again.identity
    assert (short.layers, short.identity.layers) == (1, 1)
    assert short.parameters < whole.parameters


@pytest.mark.parametrize("layers", [0, -1, 3])
def test_number_of_layers_out_of_range(tiny_folder, layers):
    message = refused(tiny_folder, layers=layers)
    assert message == f"layers: got {layers}, allowed: 1 to 2 ({tiny_folder})"


def test_model_that_cannot_be_cut_to_its_first_layers(tiny_folder, monkeypatch):
    """A family that reads its number of layers from another key would keep all of them."""
    from memcram.models import loading

    load = loading.AutoModelForCausalLM.from_pretrained

    def whole(folder, config=None, **options):
        return load(folder, **options)

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", whole)
    assert refused(tiny_folder, layers=1).endswith("cannot be truncated to its first layers")


def test_a_file_that_is_not_a_model(tmp_path):
    (tmp_path / "a.txt").write_text("A lamp.")
    assert "a.txt' is neither a folder nor a GGUF file" in refused(tmp_path / "a.txt")
    assert refused("missing.gguf") == "model: 'missing.gguf' does not exist"
