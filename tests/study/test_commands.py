"""The commands of `memcram study`."""

import csv
import dataclasses
import json
import math
import sqlite3
import tomllib
from dataclasses import asdict

import pyarrow.parquet
import pytest

from memcram.cli import run
from memcram.recipes.catalogue import RECIPES
from memcram.recipes.initialisers import NormalStart
from memcram.study.results import column_types
from memcram.study.store import Store


def command(capsys, *words):
    """Exit code, stdout and the one line on stderr."""
    code = run(["study", *map(str, words)])
    out, err = capsys.readouterr()
    assert err.count("\n") <= 1, err
    return code, out, err.strip()


def test_new_run_status_export(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    code, out, _ = command(capsys, "new", "pocket", "--scale", "0.1", "--json")
    assert (code, json.loads(out)["output"]) == (0, "pocket.toml")
    text = (place / "pocket.toml").read_text().replace("steps = 300", "steps = 1")
    text = text.replace('source = "books"', 'source = "files"')
    (place / "pocket.toml").write_text(text)
    assert command(capsys, "new", "pocket")[0] == 2  # it exists
    assert (place / "pocket.toml").read_text() == text
    code, out, err = command(capsys, "run", "pocket.toml", "--limit", "2", "--json")
    assert (code, err) == (0, "")
    done = 2
    code, out, _ = command(capsys, "status", "pocket.study", "--json")
    report = json.loads(out)
    assert (code, report["done"], report["failures"]) == (0, done, [])
    assert report["pending"] > 0
    assert report["seconds_left"] > 0
    assert report["tokens"] == sum(row.tokens for row in Store(place / "pocket.study").rows())
    code, out, _ = command(capsys, "export", "pocket.study", "-o", "out", "--json")
    assert json.loads(out) == {"rows": done, "files": ["out.parquet", "out.csv"]}
    code, _, err = command(capsys, "export", "pocket.study", "-o", "out")
    assert code == 2
    assert "exists; pass --force" in err


def test_run_accepts_a_store(place, capsys, measured):
    store = measured(place / "small.toml", limit=2)
    code, out, _ = command(capsys, "run", store.folder, "--limit", "3", "--json")
    assert (code, json.loads(out)["done"], json.loads(out)["pending"]) == (0, 5, 10)
    code, _, err = command(capsys, "run", store.folder, "--store", place / "other")
    assert (code, "is a store itself" in err) == (2, True)


def test_dry_run_measures_nothing(place, capsys):
    code, out, _ = command(capsys, "run", place / "small.toml", "--dry-run", "--json")
    report = json.loads(out)
    assert (code, report["cells"], report["texts"]) == (0, 5, 15)
    # (8 + 1) measurements × 3 texts × positions: 4, 9, 5, 10, and 12 for a length of 2 to 12.
    assert report["token_steps_at_most"] == 9 * 3 * (4 + 9 + 5 + 10 + 12)
    assert not (place / "small.study").exists()
    assert command(capsys, "run", place / "small.toml", "--dry-run")[0] == 0


def test_exported_rows_are_the_stored_rows(place, whole, write_spec, measured, capsys):
    more = ("[1, 2]", "[1]"), ("[4, 9]", "[4]"), ("samples = 3", "samples = 4")
    stores = whole, measured(write_spec(*more, name="b.toml"))
    out = place / "results"
    out.mkdir()
    assert command(capsys, "export", stores[0].folder, stores[1].folder, "-o", out)[0] == 0
    # The second study has one more text of each source, and the rest in common.
    rows = {row.task: asdict(row) for store in stores[::-1] for row in store.rows()}
    assert [len(store.rows()) for store in stores] == [15, 8]
    assert len(rows) == 17
    table = pyarrow.parquet.read_table(out / "rows.parquet")
    assert table.column_names == list(column_types())
    assert {row["task"]: row for row in table.to_pylist()} == rows
    # A column without any value has its type, too.
    assert str(table.schema.field("paper_accuracy").type) == "double"
    assert table.schema.field("first_nats").nullable
    assert not table.schema.field("accuracy").nullable
    with (out / "rows.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["task"] for row in read] == table.column("task").to_pylist()
    for row in read:
        wanted = rows[row["task"]]
        assert math.isclose(float(row["mem_nats"]), wanted["mem_nats"], rel_tol=0)
        assert row["paper_accuracy"] == ""
        assert row["exact"] == str(wanted["exact"])


def test_export_of_an_empty_store_has_the_columns(place, capsys):
    Store.create(place / "new.study", "", place).close()
    assert command(capsys, "export", place / "new.study", "-o", place / "none")[0] == 0
    table = pyarrow.parquet.read_table(place / "none.parquet")
    assert (table.num_rows, table.column_names) == (0, list(column_types()))


def test_new_lists(capsys):
    code, out, _ = command(capsys, "new", "--list", "--json")
    assert code == 0
    assert len(json.loads(out)["studies"]) == 28
    assert command(capsys, "new")[0] == 2


@pytest.mark.parametrize("name", ["\U00020bb7モデル", 'a"b'])
def test_starter_for_a_folder_of_any_name(place, capsys, monkeypatch, name):
    monkeypatch.chdir(place)
    code, _, err = command(capsys, "new", f"./{name}", "-o", "new.toml")
    assert (code, err) == (0, "")
    assert tomllib.loads((place / "new.toml").read_text("utf-8"))["models"] == [f"./{name}"]


def test_rows_keep_the_settings_they_were_measured_with(place, measured, monkeypatch):
    """A store is continued after an upgrade that changed the settings of a recipe."""
    old = measured(place / "small.toml", limit=2).recipes()
    changed = dataclasses.replace(RECIPES["default"], start=NormalStart())
    monkeypatch.setitem(RECIPES, "default", changed)
    store = measured(place / "small.toml", limit=3)
    assert len(old) == 2
    assert [one["start"]["kind"] for one in old.values()] == ["UniformStart"] * 2
    found = store.recipes()
    assert {task: found[task] for task in old} == old
    new = [found[row.task] for row in store.rows()]  # the old ones are kept aside
    assert [one["start"]["kind"] for one in new] == ["NormalStart"] * 3
    assert {one["strategy"]["steps"] for one in found.values()} == {8}  # of the spec
    with sqlite3.connect(store.folder / "store.sqlite") as db:  # as if an older memcram had begun
        db.execute("UPDATE runs SET settings = '{}' WHERE id = 1")
    db.close()
    assert set(store.recipes()) == set(found) - set(old)


def test_settings_of_every_run_are_recorded(place, measured):
    store = measured(place / "small.toml", limit=2)
    [first] = store.runs()
    assert first["outcome"] == "done"
    assert set(first["settings"]["versions"]) >= {"memcram", "torch", "transformers", "python"}
    assert first["settings"]["threads"] >= 1
    assert first["token_steps"] == sum(row.token_steps for row in store.rows())
    assert first["started"] <= first["ended"]
