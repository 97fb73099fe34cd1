"""Hub repositories that hold only pickled weights: the hub's conversion, or a command."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from memcram.errors import ModelError
from memcram.models.sources import find_model

NAME = "someone/old-model"
CONVERSION = "refs/pr/7"
# By name: the lazy package does not always have its imported submodules as attributes.
conversion_module = import_module("transformers.safetensors_conversion")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A fake hub with a config at `main`, and converted weights where a test adds them."""
    asked: list[str | None] = []
    weights: set[str] = set()

    def snapshot_download(name, revision=None, allow_patterns=None):
        assert name == NAME
        assert not any("bin" in pattern for pattern in allow_patterns)
        asked.append(revision)
        folder = tmp_path / (revision or "main").replace("/", "-")
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        if revision in weights:
            (folder / "model.safetensors").write_bytes(save({"a": torch.zeros(1)}))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked, weights


def offer(monkeypatch, answer):
    def get_conversion_pr_reference(api, name):
        assert name == NAME
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(
        conversion_module,
        "get_conversion_pr_reference",
        get_conversion_pr_reference,
    )


def test_conversion_is_used_where_the_hub_offers_it(hub, monkeypatch):
    asked, weights = hub
    weights.add(CONVERSION)
    offer(monkeypatch, CONVERSION)
    source = find_model(NAME)
    assert asked == [None, CONVERSION]
    assert (source.folder / "model.safetensors").is_file()
    assert source.revision == source.folder.name


@pytest.mark.parametrize("refusal", [OSError("no pull request"), ConnectionError("no network")])
def test_without_a_conversion_the_error_names_the_command(hub, monkeypatch, refusal):
    offer(monkeypatch, refusal)
    with pytest.raises(ModelError) as caught:
        find_model(NAME)
    message = str(caught.value)
    assert message.startswith(f"{NAME}: ")
    assert "no safetensors conversion" in message
    assert "python -c" in message
    assert "save_pretrained('old-model')" in message


def test_conversion_of_main_is_not_used_for_another_revision(hub, monkeypatch):
    _, weights = hub
    weights.add(CONVERSION)
    offer(monkeypatch, CONVERSION)
    with pytest.raises(ModelError, match="of revision 'step1000'") as caught:
        find_model(NAME, "step1000")
    assert f"M.from_pretrained('{NAME}', revision='step1000')" in str(caught.value)


def test_conversion_without_weights_is_refused(hub, monkeypatch):
    offer(monkeypatch, CONVERSION)
    with pytest.raises(ModelError, match="no weights"):
        find_model(NAME)


def test_config_alone_needs_no_conversion(hub, monkeypatch):
    offer(monkeypatch, AssertionError("not to be asked"))
    assert find_model(NAME, config_only=True).id == NAME


def test_local_folder_with_pickled_weights_is_refused_with_the_command(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(ModelError, match=r"never opens.*python -c") as caught:
        find_model(str(tmp_path))
    assert f"{tmp_path}-safetensors" in str(caught.value)
