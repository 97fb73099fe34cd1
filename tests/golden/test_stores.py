"""Stores written by an earlier memcram: read, exported, and gone on with."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from golden import frozen
from golden.frozen import DECIDED, SPECS, STAGE, STORES, expected, rows_of, run


@pytest.mark.parametrize("name", STORES)
def test_the_export_is_byte_for_byte_the_same(name, stage, bring):
    bring(name)
    table = frozen.exported(stage / f"{name}.study", stage)
    assert table == expected(f"{name}.csv")
    typed = pyarrow.parquet.read_table(stage / "table.parquet")
    assert typed.schema.names == table.splitlines()[0].split(",")
    for column in typed.schema.names:
        text = [row[column] for row in rows_of(table)]
        assert ["" if one is None else str(one) for one in typed[column].to_pylist()] == text


def test_columns_of_the_parquet_file(bring):
    bring("capacity")
    assert run("study", "export", "capacity.study", "-o", "table").code == 0
    assert frozen.as_text(frozen.schema("table.parquet")) == expected("parquet.json")


@pytest.mark.parametrize("name", SPECS)
def test_a_finished_study_measures_nothing_again(name, stage, bring):
    bring(name)
    status = run("study", "status", f"{name}.study", "--json").report
    report = run("study", "run", f"{name}.toml", "--device", "cpu", "--json").report
    assert report == status | {"runs": status["runs"] + 1}
    assert frozen.exported(stage / f"{name}.study", stage) == expected(f"{name}.csv")


def test_rows_with_a_shared_map_are_kept_when_the_spec_is_edited(stage, bring):
    """They have other ids than the same texts with one map per text, or another `default`."""
    bring("recipes-before")
    edit("recipes.toml")
    before = rows_of(expected("recipes-before.csv"))
    changed = ("default", "tarasov2026+low-dim")
    aside = [row for row in before if row["recipe"].startswith(changed)]
    words = ["--store", "recipes-before.study", "--device", "cpu", "--json"]
    report = run("study", "run", "recipes.toml", *words).report
    assert (report["done"], report["kept_aside"]) == (len(before), len(aside))
    after = rows_of(frozen.exported(stage / "recipes-before.study", stage))
    assert [row for row in after if not row["recipe"].startswith(changed)] == [
        row for row in before if row not in aside
    ]
    assert [row["task"] for row in after] == json.loads(expected("recipes.tasks.json"))


def test_rows_of_the_former_default_are_kept_and_measured_again(bring):
    """Its settings are part of the tasks' ids, so no row stands for another recipe."""
    bring("capacity-before")
    edit("capacity.toml")
    before = rows_of(expected("capacity-before.csv"))
    words = ["--store", "capacity-before.study", "--device", "cpu", "--json"]
    report = run("study", "run", "capacity.toml", *words).report
    assert (report["done"], report["kept_aside"]) == (len(before), len(before))


def edit(spec):
    """Change a spec's text, but nothing that it asks for."""
    with Path(spec).open("a") as file:
        file.write("# edited\n")


def test_a_study_that_was_killed_is_finished(stage, bring):
    bring("broken-off")
    kept = rows_of(expected("broken-off.csv"))
    status = run("study", "status", "broken-off.study", "--json").report
    assert (status["done"], status["pending"], len(kept)) == (3, 5, 3)
    report = run("study", "run", "broken-off.study", "--device", "cpu", "--json").report
    assert (report["done"], report["pending"], report["runs"]) == (8, 0, 2)
    rows = rows_of(frozen.exported(stage / "broken-off.study", stage))
    assert [row["task"] for row in rows] == json.loads(expected("broken-off.tasks.json"))
    by_task = {row["task"]: row for row in rows}
    for row in kept:
        assert by_task[row["task"]] == row
    for row in rows:
        assert (stage / f"broken-off.study/vectors/{row['task']}.safetensors").is_file()


@pytest.mark.parametrize("name", SPECS)
def test_a_study_afresh_has_the_same_tasks(name, stage):
    """Ids are hashes of all that decides a row: a model, a text, a recipe, a seed, a kind."""
    words = ["--store", "fresh.study", "--device", "cpu", "--json"]
    assert run("study", "run", f"{name}.toml", *words).code == 0
    assert frozen.as_text(frozen.tasks(stage / "fresh.study")) == expected(f"{name}.tasks.json")
    old, new = (
        rows_of(expected(f"{name}.csv")),
        rows_of(frozen.exported(stage / "fresh.study", stage)),
    )
    for before, after in zip(old, new, strict=True):
        assert {key: before[key] for key in DECIDED} == {key: after[key] for key in DECIDED}
        if before["kind"] == "capacity":
            assert float(after["lm_nats"]) == pytest.approx(float(before["lm_nats"]), rel=1e-3)
    assert frozen.layout(stage / "fresh.study") == json.loads(expected("layout.json"))
    files = {path.name for path in (stage / "fresh.study/vectors").iterdir()}
    assert files == {path.name for path in (STAGE / f"{name}.study/vectors").iterdir()}
    for file in files:
        one, other = (
            {
                key: (tensor.dtype, tensor.ndim)
                for key, tensor in safetensors.torch.load((place / file).read_bytes()).items()
            }
            for place in (stage / "fresh.study/vectors", STAGE / f"{name}.study/vectors")
        )
        assert one == {"rises": (torch.int64, 2)} | other  # older stores have no rises


def test_kept_tensors():
    assert frozen.as_text(frozen.tensors()) == expected("tensors.json")
