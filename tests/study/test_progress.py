"""Progress of a study by cell: sums, estimates, and what a store of an earlier version shows."""

import json
import sqlite3

import pytest

from memcram.cli import run
from memcram.study import read_spec, run_study
from memcram.study.runner import open_store
from memcram.study.store import Store


def check_cells(cells, total):
    """Cells sum up to the whole, and no number is negative."""
    assert sum(cell.total for cell in cells) == total
    for cell in cells:
        assert cell.total == cell.pending + cell.done + cell.failed
        assert 0 <= cell.running <= cell.pending
        assert min(cell.done, cell.failed) >= 0
        assert cell.seconds_left is None or cell.seconds_left >= 0
        assert cell.pending or not cell.seconds_left


def test_cells_sum_up_to_the_study_at_every_moment(place, write_spec, tiny_folder, monkeypatch):
    """Also for a model that is not loaded yet, whose cells come from the spec."""
    monkeypatch.setattr("memcram.study.worker._GROUP", 4)
    monkeypatch.setattr("memcram.study.worker._REPORT_SECONDS", 0.0)
    other = f'"{tiny_folder}", {{id = "{tiny_folder}", layout = "mem"}}'
    spec = read_spec(write_spec((f'"{tiny_folder}"', other)))
    store, seen = open_store(place / "small.study", spec), []
    with store.lock():
        run_study(spec, store, device="cpu", on_progress=seen.append)
    for state in seen:
        check_cells(state.cells, state.total)
        assert state.done == sum(cell.done for cell in state.cells)
    assert max(sum(cell.running for cell in state.cells) for state in seen) > 4
    assert seen[0].total == 30  # the second model has the same tasks, which are run once
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert (seen[-1].done, seen[-1].total) == (15, 15)


def test_cells_of_a_store(whole):
    cells, counts = whole.cells(), whole.counts()
    check_cells(cells, counts.done)
    found = [(one.cell.source, one.cell.length, one.cell.vectors, one.done) for one in cells]
    grid = [("mine", length, k, 3) for k in (1, 2) for length in (4, 9)]
    assert found == [*grid, ("words", None, 1, 3)]
    assert {one.cell.recipe for one in cells} == {"default"}
    assert {one.cell.model for one in cells} == {row.model for row in whole.rows()}
    assert counts.seconds_left == 0


def test_time_left_is_that_of_the_cells(place, measured):
    store = measured(place / "small.toml", limit=4)
    cells, counts = store.cells(), store.counts()
    check_cells(cells, 15)
    assert (counts.done, counts.pending) == (4, 11)
    assert counts.seconds_left == pytest.approx(sum(cell.seconds_left for cell in cells))
    with sqlite3.connect(store.folder / "store.sqlite") as db:  # one cell is ten times as slow
        slow = "SELECT task FROM cells WHERE vectors = 1 AND length = 4"
        db.execute(f"UPDATE rows SET seconds = 10 WHERE task IN ({slow})")
        db.execute("UPDATE rows SET seconds = 1 WHERE seconds != 10")
    db.close()
    first, second, third, *_ = store.cells()
    assert (first.done, first.seconds_left) == (3, 0)
    assert second.done == 1
    assert second.seconds_left == pytest.approx(2)  # two texts like its own
    assert third.seconds_left > 3  # from all rows, which took longer


def test_tasks_in_progress_are_recorded_until_the_run_ends(place, measured, monkeypatch):
    monkeypatch.setattr("memcram.study.runner._RECORD_SECONDS", 0.0)
    monkeypatch.setattr("memcram.study.worker._REPORT_SECONDS", 0.0)
    running = []

    def look(_):
        if (place / "small.study").is_dir():
            other = Store(place / "small.study")
            running.append(sum(cell.running for cell in other.cells()))
            other.close()

    store = measured(place / "small.toml", on_progress=look)
    assert max(running) > 1
    assert sum(cell.running for cell in store.cells()) == 0
    with sqlite3.connect(store.folder / "store.sqlite") as db:  # as if killed
        db.execute("UPDATE runs SET outcome = 'running'")
        db.execute("UPDATE tasks SET status = 'pending' WHERE place < 3")
        db.execute("UPDATE cells SET running = 1")
    db.close()
    assert sum(cell.running for cell in store.cells()) == 3
    store.begin_run({})
    store.set_running([], 2)
    assert sum(cell.running for cell in store.cells()) == 0


def test_store_of_an_earlier_version_has_one_cell_per_model_until_it_is_continued(
    place, measured, whole, capsys
):
    store = measured(place / "small.toml", limit=4)
    known = [one.cell for one in store.cells()]
    with sqlite3.connect(store.folder / "store.sqlite") as db:
        db.execute("DROP TABLE cells")
    db.close()
    [cell] = store.cells()
    assert (cell.cell, cell.done, cell.pending) == (None, 4, 11)
    assert store.counts().seconds_left == pytest.approx(cell.seconds_left)
    assert run(["study", "status", str(store.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pending"] == 11
    measured(place / "small.toml", limit=1)
    assert [one.cell for one in store.cells()] == known
    assert [one.done for one in measured(place / "small.toml").cells()] == [
        one.done for one in whole.cells()
    ]
