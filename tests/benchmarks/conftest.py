"""Two books, the least that the arena halves."""

import pytest


@pytest.fixture
def books(tmp_path):
    """A folder of two short books that differ."""
    folder = tmp_path / "books"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"{name}: the lamp in the harbour went out. " * 20)
    return folder
