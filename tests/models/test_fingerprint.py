"""The fingerprint changes with what decides logits and tokens, and with nothing else."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import memcram
import memcram.models.fingerprint as fingerprint_module
from memcram.models.fingerprint import file_sha256, folder_fingerprint
from memcram.models.folder import FOLDER, weight_files

# Archives are tied to these files: they never change under this name.
POCKET = {
    "README.md": "c84141bdaeaeb2f3f3454afe6e77757d3ad0ec77119b98c7171c6f789e594c74",
    "config.json": "46fc26e842203d98ad3dd0306a97bf203afde473fc6785ea134d2952aa60ce90",
    "generation_config.json": "8e7d81a4ad69b0bd3a2c35f56e8d2231218f9adae555f3b68ca17983e0f2b5ef",
    "model.safetensors": "c029793999be9f70883aaeb228f6f31eff343ea6aebed2c3a5dc4e09bab08d89",
    "tokenizer.json": "b999d7a52a7395cf5a68f58563c5c52bd4319864144f5f9fd35be4cad1561ee9",
    "tokenizer_config.json": "bae721e909e6194f9a3ded7261ddc77d02c0360893d29ba77abd7421a5b412f4",
}


@pytest.fixture
def folder(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def fingerprint(folder):
    return FOLDER.fingerprint(folder, None)


def edit(path, **changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes, indent=7))


def test_pocket_is_frozen():
    root = memcram.packaged_models()["pocket"]
    assert {name: file_sha256(root / name) for name in POCKET} == POCKET
    assert {path.name for path in root.iterdir() if path.is_file()} == set(POCKET)


def test_fingerprint_does_not_depend_on_the_path(folder, tiny_folder):
    assert fingerprint(folder) == fingerprint(tiny_folder)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"transformers_version": "9.9"}),
        ("config.json", {"dtype": "float16", "use_cache": False}),
        ("config.json", {"architectures": ["Other"], "_name_or_path": "x"}),
        ("tokenizer.json", {"padding": {"length": 3}, "truncation": {"max_length": 3}}),
        ("tokenizer_config.json", {"model_max_length": 7}),
        ("generation_config.json", {"temperature": 0.5}),
        ("README.md", {}),
    ],
)
def test_incidental_settings_keep_the_fingerprint(folder, tiny_folder, file, changes):
    edit(folder / file, **changes)
    assert fingerprint(folder) == fingerprint(tiny_folder)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}),
        ("config.json", {"rms_norm_eps": 1e-3}),
        ("config.json", {"num_attention_heads": 4}),
        ("config.json", {"max_position_embeddings": 64}),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}),
        ("tokenizer_config.json", {"add_prefix_space": True}),
    ],
)
def test_settings_that_change_logits_or_tokens_change_the_fingerprint(
    folder, tiny_folder, file, changes
):
    edit(folder / file, **changes)
    assert fingerprint(folder) != fingerprint(tiny_folder)


def test_one_weight_changes_the_fingerprint(folder, tiny_folder):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    next(iter(tensors.values())).view(-1)[0] += 1e-3
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    assert fingerprint(folder) != fingerprint(tiny_folder)


def test_another_bos_changes_the_fingerprint(folder, tiny_folder):
    """In the layout `mem+bos` the BOS token is an input like any other."""
    edit(folder / "config.json", bos_token_id=5)
    edit(folder / "tokenizer_config.json", bos_token="a")
    assert fingerprint(folder) != fingerprint(tiny_folder)


def shards(folder):
    """Split the weights into two shards with an index, as large models are saved."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    path.unlink()
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        safetensors.torch.save_file({n: tensors[n] for n in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    return sorted(set(index.values()))


def test_files_that_are_not_loaded_keep_the_fingerprint(folder, tiny_folder, tiny_lm):
    """An archive saved next to the model, or a second copy of the weights in a whole download."""
    safetensors.torch.save_file({"x": torch.zeros(2)}, folder / "text.mem.safetensors")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert weight_files(folder) == ["model.safetensors"]
    assert fingerprint(folder) == fingerprint(tiny_folder) == tiny_lm.identity.fingerprint
    assert memcram.load_lm(str(folder), device="cpu").identity == replace(
        tiny_lm.identity, id=str(folder)
    )


def test_shards_are_those_of_the_index(folder):
    files = shards(folder)
    assert weight_files(folder) == files
    before = fingerprint(folder)
    shutil.copy(folder / files[0], folder / "model-00003-of-00003.safetensors")
    assert fingerprint(folder) == before
    assert memcram.load_lm(str(folder), device="cpu").identity.fingerprint == before
    (folder / files[1]).write_bytes(b"other weights")
    assert fingerprint(folder) != before


def test_config_may_name_another_weight_file(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    edit(folder / "config.json", transformers_weights="other.safetensors")
    assert weight_files(folder) == ["other.safetensors"]
    loaded = memcram.load_lm(str(folder), device="cpu")
    assert loaded.identity.fingerprint == fingerprint(folder)


@pytest.mark.parametrize("layers", [None, 1])
def test_archive_made_when_every_weight_file_counted_is_still_read(folder, tiny_lm, layers):
    (folder / "consolidated.safetensors").write_bytes(b"never loaded")
    names = ["consolidated.safetensors", "model.safetensors"]
    earlier = folder_fingerprint(folder, names)
    if layers:
        earlier = hashlib.sha256(f"{earlier}, the first {layers} layers".encode()).hexdigest()
    identity = memcram.load_lm(str(folder), device="cpu", layers=layers).identity
    assert identity.fingerprint != earlier
    assert identity.matches(identity.fingerprint)
    assert identity.matches(earlier)
    assert not identity.matches("0" * 64)
    assert tiny_lm.identity.earlier_fingerprint is None


def test_replacement_of_the_same_size_and_time_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("memcram.models.fingerprint._REMEMBERED_FROM_BYTES", 4)
    weights, other = tmp_path / "weights", tmp_path / "other"
    weights.write_bytes(b"12345678")
    os.utime(weights, ns=(1, 1))
    first = file_sha256(weights)
    other.write_bytes(b"87654321")
    os.utime(other, ns=(1, 1))
    other.replace(weights)  # another inode
    second = file_sha256(weights)
    assert second != first
    weights.write_bytes(b"11111111")  # the same inode
    os.utime(weights, ns=(1, 1))
    assert file_sha256(weights) not in (first, second)


def test_hash_of_a_large_file_is_cached_until_it_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("memcram.models.fingerprint._REMEMBERED_FROM_BYTES", 4)
    calls = []
    real = fingerprint_module._hash
    monkeypatch.setattr(fingerprint_module, "_hash", lambda path: calls.append(path) or real(path))
    weights = tmp_path / "weights"
    weights.write_bytes(b"12345678")
    first = file_sha256(weights)
    assert file_sha256(weights) == first
    assert len(calls) == 1
    weights.write_bytes(b"87654321")
    os.utime(weights, ns=(1, 1))
    assert file_sha256(weights) != first
    assert len(calls) == 2


def test_damaged_hash_cache_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("memcram.models.fingerprint._REMEMBERED_FROM_BYTES", 4)
    (tmp_path / "memcram").mkdir()
    (tmp_path / "memcram" / "weights.json").write_text("[not json")
    weights = tmp_path / "weights"
    weights.write_bytes(b"12345678")
    assert file_sha256(weights) == hashlib.sha256(b"12345678").hexdigest()
