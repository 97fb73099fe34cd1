"""Paths beside noise: with the model and the recipe that led to them, or not at all."""

import dataclasses
import json
import shutil
import sqlite3

import pytest
from click.testing import CliRunner

import path_noise
from memcram.recipes.catalogue import RECIPES
from memcram.study.read import read_spec
from memcram.study.runner import open_store, run_study

SPEC = """
name = "paths"
kind = "seeds"
models = ["model"]
starts = 2
lengths = [6]
samples = 1
steps = 6

[[texts]]
name = "words"
source = "random-words"
words = 20
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory, tiny_folder):
    """A study of a model that lies beside its spec."""
    folder = tmp_path_factory.mktemp("paths")
    shutil.copytree(tiny_folder, folder / "model")
    (folder / "paths.toml").write_text(SPEC)
    spec = read_spec(folder / "paths.toml")
    store = open_store(folder / "paths.study", spec)
    run_study(spec, store, device="cpu")
    store.close()
    return store.folder


def lines(store, *options):
    """Exit code, and what was said."""
    result = CliRunner().invoke(path_noise.main, [str(store), *map(str, options)])
    return result.exit_code, result.output


def test_command(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not the folder of the spec
    code, output = lines(store, "-o", tmp_path / "out.json")
    assert code == 0, output
    found = json.loads((tmp_path / "out.json").read_text())
    assert [one["recipe"] for one in found] == ["default"] * 2
    assert all(3 <= one["points"] <= 7 for one in found)


def test_another_recipe_of_that_name_is_refused(store, monkeypatch):
    now = RECIPES["default"]
    now = dataclasses.replace(now, optimiser=dataclasses.replace(now.optimiser, lr=0.7))
    monkeypatch.setitem(RECIPES, "default", now)
    code, output = lines(store)
    assert code == 2
    assert output.count("\n") == 1
    assert "had other settings (optimiser) than it has in this memcram" in output


def test_settings_that_were_not_recorded_are_refused(store, tmp_path):
    old = shutil.copytree(store, tmp_path / "old.study")
    with sqlite3.connect(old / "store.sqlite") as db:
        db.execute("UPDATE runs SET settings = '{}'")
    db.close()
    code, output = lines(old)
    assert (code, output.count("\n")) == (2, 1)
    assert "the settings of 'default' were not recorded" in output


def test_other_weights_are_refused(store, tmp_path):
    with sqlite3.connect(shutil.copytree(store, tmp_path / "x.study") / "store.sqlite") as db:
        db.execute("UPDATE rows SET fingerprint = 'other'")
    db.close()
    code, output = lines(tmp_path / "x.study")
    assert (code, output.count("\n")) == (2, 1)
    assert "has the weights it was run with" in output


def test_what_cannot_be_written_is_said_before_the_work(store, tmp_path, monkeypatch):
    monkeypatch.setattr(path_noise, "pairs", None)
    code, output = lines(store, "-o", tmp_path / "nowhere" / "out.json")
    assert (code, output.count("\n")) == (2, 1)
    assert "does not exist" in output
