"""A chunk that begins at the vectors of the one before."""

import json

import pytest
from click.testing import CliRunner

import neighbour


@pytest.fixture
def words(books):
    return [str(books), "--samples", "2", "--max-tokens", "24"]


def test_command(tmp_path, words):
    out = tmp_path / "found.json"
    done = CliRunner().invoke(neighbour.main, [*words, "--budget", "600", "-o", str(out)])
    assert done.exit_code == 0, done.output
    own, moved = json.loads(out.read_text())["lines"]
    assert own["more"] == 0
    assert moved["more"] == pytest.approx(moved["tokens"] - own["tokens"])
    assert moved["exact"] != own["exact"] or moved["token_steps"] != own["token_steps"]


def test_a_recipe_that_begins_elsewhere_is_refused(words):
    refused = CliRunner().invoke(neighbour.main, [*words, "-r", "default"])
    assert refused.exit_code == 2
    assert "can't begin from vectors" in refused.output
