"""The arena from the command to the file, on a tiny model."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

import capacity
from arena import bouts
from memcram.recipes.catalogue import get_recipe


def test_groups_are_neighbours_and_seeds_do_not_depend_on_the_recipe():
    ids = [torch.arange(5)] * 5
    terms = bouts.Terms(vectors=1, budget=10, grid=None, seed=3)
    alone = bouts.cram_requests(get_recipe("default"), ids, terms)
    shared = replace(get_recipe("tarasov2026+low-dim"), group_size=2)
    together = bouts.cram_requests(shared, ids, terms)
    assert [request.group for request in alone] == [None] * 5
    assert [request.group for request in together] == [0, 0, 1, 1, 2]
    assert [request.seed for request in alone] == [request.seed for request in together]
    assert len({request.seed for request in alone}) == 5


def invoke(*arguments):
    return CliRunner().invoke(capacity.main, [str(argument) for argument in arguments])


def test_the_command_from_books_to_file(tiny_folder, books, tmp_path, monkeypatch):
    out = tmp_path / "report.json"
    common = [books, "--model", tiny_folder, "--device", "cpu", "--max-tokens", 12]
    common += ["--samples", 2, "--budget", 200, "-o", out]
    run = [*common, "-r", "default", "-r", "kuratov2025+t1@lr=0.3", "--figures", tmp_path / "f"]
    found = invoke(*run)
    assert found.exit_code == 0, found.output
    report = json.loads(out.read_text())
    grown, fixed = report["bouts"]
    assert (grown["lengths"], fixed["lengths"]) == ("grown", "grid")
    assert [row["id"] for row in grown["rows"]] == [row["id"] for row in fixed["rows"]]
    assert {row["origin"] for row in grown["rows"]} == {"b.txt"}
    # At most one measurement of a whole text beyond the budget.
    for row in grown["rows"] + fixed["rows"]:
        assert all(one["token_steps"] < 200 + 13 for one in row["attempts"])
        assert all(tokens <= row["horizon"] for _, tokens in row["history"])
    assert report["conditions"]["books"] == {"choosing": ["a.txt"], "reporting": ["b.txt"]}
    assert {path.suffix for path in (tmp_path / "f").iterdir()} == {".png", ".svg"}

    monkeypatch.setattr(capacity, "run_bout", lambda *_: pytest.fail("a finished bout was run"))
    assert invoke(*run).output.count("default") == found.output.count("default") - 1
    raced = invoke(*common, "--race", "--race-length", 4, "--turns", 1, "-r", "default@steps=3")
    assert raced.exit_code == 2  # `steps` names two fields
    monkeypatch.undo()
    line = "default@strategy.steps=3"
    against = ["--race-against", "kuratov2025+t1@strategy.steps=3"]
    raced = invoke(*common, "--race", "--race-length", 4, "--turns", 1, "-r", line, *against)
    assert raced.exit_code == 0, raced.output
    report = json.loads(out.read_text())
    assert [side["name"] for side in report["race"][0]["sides"]] == [
        line,
        "kuratov2025+t1@strategy.steps=3, one by one",
    ]
    assert len(report["bouts"]) == 2


def test_refused_commands(books, tmp_path):
    assert "kuratov2025+t1" in invoke(books, "-r", "kuratov2025").output
    assert "--quick" in invoke("-r", "default").output
    missing = invoke(books, "--race", "-o", tmp_path / "none.json")
    assert missing.exit_code == 2
    assert "--race-length" in missing.output
