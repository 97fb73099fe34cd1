"""Model folders that cannot be used: one line that says what is wrong and what to do."""

import json
import shutil

import pytest

import memcram
from memcram import ModelError

LFS = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 2690\n"
)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def refused(name):
    with pytest.raises(ModelError) as caught:
        memcram.load_lm(str(name), device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_adapter_next_to_the_model(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    message = refused(folder)
    assert message.startswith(f"{folder}: ")
    assert "next to the model" in message
    assert "merge_and_unload" in message


@pytest.mark.parametrize("base", ["x/y", None])
def test_adapter_alone(tmp_path, base):
    config = {"peft_type": "LORA", "base_model_name_or_path": base}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    message = refused(tmp_path)
    assert "adapter for x/y, not a model" in message if base else "adapter, not a model" in message


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
)
def test_git_lfs_pointer(folder, file):
    (folder / file).write_text(LFS)
    assert f"{file} is a Git LFS pointer" in refused(folder)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"\xef\xbb\xbf" + content, "is truncated or damaged"),
        (lambda content: content[: len(content) // 2], "is truncated or damaged"),
        (lambda content: b"\xff" + content[1:], "is truncated or damaged"),
        (lambda content: b"[]", "is not a JSON object"),
        (lambda content: b"[" * 10**5, "is truncated or damaged"),
    ],
)
def test_damaged_tokenizer_file(folder, file, damage, message):
    path = folder / file
    path.write_bytes(damage(path.read_bytes()))
    assert f"{file} {message}" in refused(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}'])
def test_damaged_index(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    message = refused(folder)
    assert "model.safetensors.index.json" in message
