"""K vectors one after the other: shares of the budget, and the vector that joins."""

import json

import pytest
import torch
from click.testing import CliRunner

import one_at_a_time
from arena.stages import Stand
from memcram.recipes.catalogue import get_recipe


@pytest.mark.parametrize(("budget", "vectors"), [(1000, 4), (17, 3), (5, 2)])
def test_shares_grow_with_the_vectors_and_spend_the_budget(budget, vectors):
    found = one_at_a_time.shares(budget, vectors)
    assert sum(found) == budget
    assert found == sorted(found)
    assert len(found) == vectors


def test_the_vectors_there_are_stay_as_they_are(tiny_lm):
    mem = torch.ones(2, tiny_lm.input_width, dtype=tiny_lm.dtype)
    stand = Stand([mem, mem], [3, 4], [10, 10])
    for where, kept in ((one_at_a_time.BEHIND, slice(0, 2)), (one_at_a_time.BEFORE, slice(1, 3))):
        more = one_at_a_time.with_one_more(tiny_lm, get_recipe("direct"), stand, where)
        for one in more.mems:
            assert one.shape == (3, tiny_lm.input_width)
            assert torch.equal(one[kept], mem)
        assert not torch.equal(*more.mems)


def test_command(tmp_path, tiny_folder, books):
    out = tmp_path / "found.json"
    words = [str(books), "--model", str(tiny_folder), "--samples", "2", "-k", "2"]
    words += ["--max-tokens", "24", "--budget", "300", "-o", str(out)]
    done = CliRunner().invoke(one_at_a_time.main, words)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert len(report["lines"]) == 3
    # Each of two stages ends with at most one pass beyond its share.
    assert all(line["token_steps"] <= 300 + 2 * 25 for line in report["lines"])
    refused = CliRunner().invoke(one_at_a_time.main, [*words, "-r", "default"])
    assert refused.exit_code == 2
