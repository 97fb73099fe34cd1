"""A file format of models is one class and one row."""

from pathlib import Path

import pytest
import torch

import memcram
from memcram import ModelError
from memcram.models import model_shape, sources
from memcram.models.folder import FolderFormat
from memcram.models.sources import is_here, nearest_model


class PointerFormat(FolderFormat):
    """A file `NAME.model` whose content is the path of a model folder."""

    def matches(self, path):
        return path.suffix == ".model" and path.is_file()

    def check(self, path, name, *, config_only):
        if not path.read_text():
            raise ModelError(f"{name}: the file is empty")
        super().check(self.folder(path), name, config_only=config_only)

    def folder(self, path):
        return Path(path.read_text())

    def options(self, path):
        return {"subfolder": ""}

    def fingerprint(self, path, load):
        return f"{sum(p.double().sum().item() for p in load().parameters()):.9f}"

    def earlier_fingerprint(self, path):
        return None


@pytest.fixture
def file(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FORMATS", (PointerFormat(), *sources.FORMATS))
    path = tmp_path / "tiny.model"
    path.write_text(str(tiny_folder))
    return path


def test_model_of_another_format_is_loaded_and_decodes(file, tiny_lm):
    lm = memcram.load_lm(str(file), device="cpu")
    assert lm.identity.id == str(file)
    assert lm.identity.fingerprint != tiny_lm.identity.fingerprint
    assert model_shape(str(file)) == (32, 257)
    mem = torch.randn(1, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(lm.generate(mem, 5), tiny_lm.generate(mem, 5))


def test_model_of_another_format_is_found_like_a_folder(file, tmp_path):
    assert is_here(str(file))
    assert nearest_model(tmp_path, file.name) == str(file)
    with pytest.raises(ModelError, match="is a local model"):
        memcram.load_lm(str(file), revision="main")


def test_format_checks_its_own_files(file):
    file.write_text("")
    with pytest.raises(ModelError, match="the file is empty"):
        memcram.load_lm(str(file), device="cpu")
