"""Small books on disk, and a stand-in for the package `datasets`."""

import sys
import types

import pytest

from small_texts import Rows, book, write_books


class DatasetsError(Exception):
    pass


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the package `datasets`: `hub.sets[id]` are rows, `hub.calls` what was asked."""
    module = types.ModuleType("datasets")
    module.sets = {
        "deepmind/pg19": Rows("text", [book(f"pg{i}") for i in range(3)]),
        "someone/chunks": Rows("text", [book(f"chunk{i}", 40) for i in range(8)]),
    }
    module.calls = []
    module.exceptions = types.SimpleNamespace(DatasetsError=DatasetsError)

    def load_dataset(path, name=None, **options):
        module.calls.append({"path": path, "name": name, **options})
        if path not in module.sets:
            raise DatasetsError(f"Dataset {path!r} doesn't exist\nmore of it")
        return module.sets[path]

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


@pytest.fixture
def folder(tmp_path):
    return write_books(tmp_path / "here")
