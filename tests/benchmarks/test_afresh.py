"""Another start where growth gave up."""

import json

import pytest
from click.testing import CliRunner

import afresh


def test_another_start_never_holds_less_and_stays_within_the_budget(tmp_path, books):
    out = tmp_path / "found.json"
    words = [str(books), "--samples", "2", "--max-tokens", "16", "--budget", "900"]
    # A patience so short that growth gives up with budget left.
    words += ["-r", "default@horizon.patience=3", "--more", "2", "-o", str(out)]
    done = CliRunner().invoke(afresh.main, words)
    assert done.exit_code == 0, done.output
    first, growing, at_once = json.loads(out.read_text())["lines"]
    for line in (growing, at_once):
        assert line["more"] >= 0
        assert line["token_steps"] > first["token_steps"]
        # Each of two runs ends with at most one pass beyond its budget.
        assert line["token_steps"] <= 900 + 2 * 16
        assert line["more"] == pytest.approx(line["tokens"] - first["tokens"])
