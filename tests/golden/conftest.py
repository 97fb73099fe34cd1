"""A copy of the fixtures to work in."""

import pytest

from golden import frozen


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """The working folder, with all that `make.py` left in `stage/`."""
    frozen.set_stage(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
