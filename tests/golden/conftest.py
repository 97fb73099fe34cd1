"""A copy of the fixtures to work in."""

import pytest

from golden import frozen


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The working folder, with what `make.py` left in `stage/`, the stores apart."""
    frozen.set_stage(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bring(stage):
    """Copy stores to the working folder: `bring("capacity")`."""
    return lambda *stores: frozen.set_stage(stage, stores)
