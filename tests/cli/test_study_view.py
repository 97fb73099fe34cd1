"""The live view of a study, and `study status --watch`."""

import io
import json
import sqlite3

import pytest
from rich.console import Console

from memcram.cli import run, study_view
from memcram.cli.study_view import View, duration, study_progress, watch
from memcram.errors import Interrupted
from memcram.study.planned import CellLabel
from memcram.study.progress import CellProgress
from memcram.study.runner import StudyProgress
from memcram.study.store import Store


def cell(length, pending=0, **counts):
    return CellProgress(0, CellLabel("pocket", "", "default", "a", length, 1), pending, **counts)


def drawn(view, height, width=60):
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(view.renderable(height))
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [3, 10, 24, 200])
def test_a_large_study_fits_into_the_terminal(height):
    cells = [cell(n, 8, seconds_left=60.0) for n in range(1, 101)]
    lines = drawn(View("many", cells, 6000.0), height)
    assert len(lines) <= max(4, min(height, 24))
    assert lines[0].rstrip() == "many: 0 of 800 texts, 1.7 h left"
    shown = len(lines) - 3  # totals, heading, the rest
    assert lines[-1].rstrip() == f"and {100 - shown} more cells with {8 * (100 - shown)} texts"


def test_cells_with_work_are_shown_those_in_progress_first():
    cells = [cell(4, done=8), cell(9, 8), cell(12, 6, running=2, done=1, failed=1)]
    lines = [line.split() for line in drawn(View("x\x1b", cells, None), 24)]
    assert lines == [
        [r"x\x1b:", "9", "of", "24", "texts,", "2", "running,", "1", "failed"],
        ["length", "done", "running", "failed", "left"],
        ["12", "1/8", "2", "1", "-"],
        ["9", "0/8", "0", "0", "-"],
    ]
    assert len(drawn(View("x", cells[:1], 0.0), 24)) == 1  # nothing is left


def test_a_store_without_cells_is_shown():
    lines = drawn(View("old", [CellProgress(0, None, 3, done=1, seconds_left=90.0)], 90.0), 24)
    assert [line.split() for line in lines[1:]] == [
        ["done", "running", "failed", "left"],
        ["1/4", "0", "0", "1.5", "min"],
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (5400, "1.5 h")]
)
def test_duration(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize("quiet", [True, False])
def test_a_run_is_shown_in_a_terminal_unless_quiet(monkeypatch, quiet):
    monkeypatch.setattr(study_view, "is_terminal", lambda _: True)
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=60, height=20)
    monkeypatch.setattr(study_view, "Console", lambda **_: console)
    with study_progress(quiet=quiet) as show:
        show(StudyProgress("pocket", 3, 4, 2.0, [cell(7, 1, running=1, done=3)]))
    assert ("pocket: 3 of 4 texts, 1 running, 2 s left" in terminal.getvalue()) != quiet


def test_progress_elsewhere_is_a_line_per_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("memcram.cli.console.time.monotonic", lambda: now[0])
    with study_progress(quiet=False) as show:
        for now[0] in range(0, 130, 10):
            show(StudyProgress("pocket", 3, 4, 120.0, [cell(7, 1, done=3)]))
    assert capsys.readouterr().err.splitlines() == [
        "pocket: 3 of 4, 2.0 min left, 1 min",
        "pocket: 3 of 4, 2.0 min left, 2 min",
    ]


@pytest.fixture
def killed(tmp_path):
    """A store with two pending tasks and one that is done, of a run that did not record its end."""
    opened = Store.create(tmp_path / "s.study", 'name = "s"', tmp_path)
    opened.begin_run({})
    opened.close()
    with sqlite3.connect(tmp_path / "s.study" / "store.sqlite") as db:
        for i, status in enumerate(("done", "pending", "pending")):
            db.execute(f"INSERT INTO tasks VALUES ('{i}', 0, {i}, 1, '{status}', NULL, 10, 1)")
            db.execute(f"INSERT INTO cells VALUES ('{i}', 'm', '', 'r', 's', {i}, 1, {i > 1})")
    db.close()
    return tmp_path / "s.study"


@pytest.fixture
def store(killed):
    """The same store while its run goes on."""
    opened = Store(killed)
    with opened.lock():
        yield killed
    opened.close()


def steps(monkeypatch, store, *queries):
    """Another process changes the store while the watcher sleeps; returns the seconds slept."""
    slept, left = [], list(queries)

    def sleep(seconds):
        slept.append(seconds)
        with sqlite3.connect(store / "store.sqlite") as db:
            db.execute(left.pop(0))
        db.close()

    monkeypatch.setattr(study_view.time, "sleep", sleep)
    return slept


def test_watch_prints_a_line_of_json_per_look_until_all_is_done(store, capsys, monkeypatch):
    slept = steps(
        monkeypatch,
        store,
        "UPDATE tasks SET status = 'failed' WHERE id = '1'",
        "UPDATE tasks SET status = 'done'",  # the run has not ended
        "UPDATE runs SET outcome = 'done'",
    )
    before = (store / "study.toml").read_bytes(), sorted(store.iterdir())
    words = ["study", "status", str(store), "--watch", "--json", "--interval", "0.5"]
    assert run(words) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert slept == [0.5] * 3
    names = ("done", "running", "pending", "failed", "outcome")
    assert [[look[name] for name in names] for look in looks] == [
        [1, 1, 2, 0, "running"],
        [1, 1, 1, 1, "running"],
        [3, 0, 0, 0, "running"],
        [3, 0, 0, 0, "done"],
    ]
    for look in looks:
        assert len(look["cells"]) == 3
        for name in ("done", "running", "pending", "failed"):
            assert sum(one[name] for one in look["cells"]) == look[name]
        assert [one["length"] for one in look["cells"]] == [0, 1, 2]
    assert before == ((store / "study.toml").read_bytes(), sorted(store.iterdir()))


def test_watch_ends_when_the_run_that_it_watched_is_interrupted(store, capsys, monkeypatch):
    steps(monkeypatch, store, "UPDATE runs SET outcome = 'interrupted'")
    assert run(["study", "status", str(store), "--watch"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("running, wrote ")
    assert first.endswith(" ago: 1 of 3 texts, 1 running")
    assert second == "run interrupted: 1 of 3 texts"


def test_a_killed_run_does_not_count_as_running(killed, capsys, monkeypatch):
    opened = Store(killed)
    assert opened.last_run()[0] == "killed"
    with opened.lock():
        assert opened.last_run()[0] == "running"
    opened.close()
    steps(monkeypatch, killed, "UPDATE tasks SET status = 'done'")
    assert run(["study", "status", str(killed), "--watch", "--json"]) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = ("done", "running", "pending", "outcome")
    assert [[look[name] for name in names] for look in looks] == [
        [1, 0, 2, "killed"],
        [3, 0, 0, "killed"],
    ]
    assert not any(cell["running"] for cell in looks[0]["cells"])


def test_watch_ends_when_the_run_that_it_watched_is_killed(killed, capsys, monkeypatch):
    opened = Store(killed)
    hold = opened.lock()
    hold.__enter__()
    monkeypatch.setattr(study_view.time, "sleep", lambda _: hold.__exit__(None, None, None))
    assert run(["study", "status", str(killed), "--watch"]) == 0
    opened.close()
    assert capsys.readouterr().out.splitlines()[-1] == "run killed: 1 of 3 texts"


def test_watch_waits_for_a_run_to_begin(store, monkeypatch):
    with sqlite3.connect(store / "store.sqlite") as db:
        db.execute("UPDATE runs SET outcome = 'interrupted'")
    db.close()
    slept = steps(
        monkeypatch,
        store,
        "INSERT INTO runs (started, outcome, pid, settings) VALUES ('x', 'running', 1, '{}')",
        "UPDATE runs SET outcome = 'failed' WHERE id = 2",
    )
    watch(Store(store), 1.0, as_json=True)
    assert slept == [1.0, 1.0]


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_a_watch(store, capsys, monkeypatch, terminal):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_view, "is_terminal", lambda _: terminal)
    monkeypatch.setattr(study_view.time, "sleep", interrupt)
    assert run(["study", "status", str(store), "--watch"]) == 130
    assert capsys.readouterr().err.strip() == "memcram: interrupted; the store was only read"
    with pytest.raises(Interrupted):
        watch(Store(store), 1.0, as_json=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--interval", "3"], "--interval: allowed only with --watch"),
        (["--watch", "--interval", "0"], "--interval: got 0.0, allowed: 0.1 to 86,400"),
        (["--watch", "--interval", "nan"], "got nan, allowed"),
    ],
)
def test_interval_is_checked(store, capsys, words, message):
    assert run(["study", "status", str(store), *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
