"""The race on a tiny model, and how its ratios are to be read."""

import json

import pytest
from click.testing import CliRunner

import race
from race import Lap


def laps(*seconds_and_exact):
    return [Lap(seconds, exact, 0) for seconds, exact in seconds_and_exact]


def test_ratios_are_read_with_their_failures():
    ours = laps((1.0, 4), (2.0, 4))
    clean = race.compare(laps((10.0, 4), (30.0, 4)), ours, 4)
    assert clean["ratio"] == pytest.approx(12.5)
    assert "every text exact" in clean["reading"]
    assert "a lower bound" in race.compare(laps((9.0, 2), (9.0, 4)), ours, 4)["reading"]
    assert "no bound" in race.compare(laps((9.0, 2)), laps((1.0, 3)), 4)["reading"]


def test_sides_take_turns_and_only_the_first_restarts(tiny_folder, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("The lamp in the harbour went out at nine, and nobody noticed. " * 9)
    out = tmp_path / "race.json"
    arguments = [book, "--model", tiny_folder, "--tokens", 12, "--samples", 3, "-o", out]
    arguments += ["--recipe", "default@strategy.steps=1"]
    arguments += ["--one-by-one", "direct@strategy.steps=1"]
    arguments += ["--against", "tarasov2026+low-dim@k=4,strategy.steps=1"]
    found = CliRunner().invoke(race.main, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    first, alone, batched = json.loads(out.read_text())["sides"]
    assert [len(side["laps"]) for side in (first, alone, batched)] == [2, 2, 2]
    assert [side["restarts"] for side in (first, alone, batched)] == [3, 0, 0]
    # Two passes over three texts of 12 positions; from four starts for the first side.
    assert [lap["token_steps"] for lap in alone["laps"]] == [72, 72]
    assert [lap["token_steps"] for lap in first["laps"]] == [288, 288]
    assert alone["name"].endswith(", one by one")


def test_a_recipe_that_is_given_the_first_token_is_refused(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("text")
    found = CliRunner().invoke(race.main, [str(book), "--against", "kuratov2025"])
    assert found.exit_code != 0
    assert "kuratov2025+t1" in found.output
