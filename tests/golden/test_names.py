"""What recipes, variants, named studies and the public names stand for."""

import json

import pytest

from golden import frozen
from golden.frozen import expected


@pytest.mark.parametrize("name", json.loads(expected("settings.json")))
def test_settings_of_a_recipe(name):
    before = json.loads(expected("settings.json"))[name]
    assert frozen.as_text(frozen.settings()[name]) == frozen.as_text(before)


def test_there_are_the_same_recipes():
    assert list(frozen.settings()) == list(json.loads(expected("settings.json")))


def test_specs_of_the_named_studies():
    for name, text in frozen.specs().items():
        assert text == expected(f"{name}.toml"), name


def test_grids_of_the_named_studies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert frozen.as_text(frozen.grids()) == expected("grids.json")


def test_public_names():
    assert frozen.as_text(frozen.public()) == expected("public.json")
