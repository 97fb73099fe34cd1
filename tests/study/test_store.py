"""Stores: foreign and damaged files, locks, records, full disks."""

import errno
import os
import sqlite3
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import safetensors.torch
import torch

from memcram.cli import run
from memcram.errors import UsageError
from memcram.study.records import read_record
from memcram.study.results import TokenRecord
from memcram.study.store import Store
from stored import assert_same


@pytest.fixture
def store(place):
    folder = place / "small.study"
    Store.create(folder, (place / "small.toml").read_text(), place).close()
    return folder


def spoil_empty(folder):
    (folder / "store.sqlite").write_bytes(b"")


def spoil_garbage(folder):
    (folder / "store.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 9)


def spoil_foreign(folder):
    (folder / "store.sqlite").unlink()
    with sqlite3.connect(folder / "store.sqlite") as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()


def spoil_newer(folder):
    with sqlite3.connect(folder / "store.sqlite") as db:
        db.execute("PRAGMA user_version = 2")
    db.close()


def spoil_tables(folder):
    with sqlite3.connect(folder / "store.sqlite") as db:
        for table in ("tasks", "rows", "runs", "meta"):
            db.execute(f"DROP TABLE {table}")
    db.close()


def spoil_missing(folder):
    (folder / "store.sqlite").unlink()


SPOILT = {
    spoil_empty: "is empty: its store.sqlite has no bytes",
    spoil_garbage: "can't be read (file is not a database)",
    spoil_foreign: "is not a memcram store",
    spoil_newer: "has version 2, but this memcram reads up to 1",
    spoil_tables: "is damaged: no table meta, tasks, rows, runs",
    spoil_missing: "is not a memcram store: no store.sqlite",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("command", ["run", "run spec", "status", "export"])
def test_other_folders_are_refused_and_unchanged(place, store, capsys, spoil, command):
    spoil(store)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    words = {
        "run": ["run", str(store)],
        "run spec": ["run", str(place / "small.toml")],
        "status": ["status", str(store)],
        "export": ["export", str(store), "-o", str(place / "out")],
    }[command]
    assert run(["study", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert SPOILT[spoil] in err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", [["status"], ["export", "-o", "out"], ["run"]])
def test_damage_after_an_intact_header_gives_a_one_line_error(store, capsys, monkeypatch, command):
    database = store / "store.sqlite"
    whole = database.read_bytes()
    page = int.from_bytes(whole[16:18], "big")  # the first one has header and tables' names
    database.write_bytes(whole[:page] + b"\xff" * (len(whole) - page))
    monkeypatch.chdir(store.parent)
    assert run(["study", command[0], str(store), *command[1:]]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "can't be read (" in err


def test_missing_folder_and_file_instead_of_folder(place, capsys):
    for missing in ("none.study", "x" * 300):
        assert run(["study", "status", str(place / missing)]) == 2
        assert "does not exist" in capsys.readouterr().err
    assert run(["study", "status", str(place / "small.toml")]) == 2
    assert "is not a folder" in capsys.readouterr().err


HOLD = """
import sys, time
from pathlib import Path
from memcram.files import locked
with locked(Path(sys.argv[1]) / "lock", "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_run_is_refused_with_the_pid_of_the_first(store, place, capsys):
    command = [sys.executable, "-c", HOLD, str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        try:
            assert first.stdout.readline() == b"held\n"
            assert run(["study", "run", str(place / "small.toml")]) == 2
            line = capsys.readouterr().err
            assert f"is being written by process {first.pid};" in line
            assert line.count("\n") == 1
            assert run(["study", "status", str(store)]) == 0  # reading needs no lock
        finally:
            first.kill()
    opened = Store(store)
    with opened.lock():  # the lock of a killed process is released
        assert (store / "lock").read_text() == f"{os.getpid()}\n"


SHAPES = {
    "a point fewer than steps": ({"path": torch.zeros(2, 1, 4)}, "path: got (2, 1, 4)"),
    "steps in two axes": ({"path_steps": torch.zeros(1, 3).long()}, "path_steps: got (1, 3)"),
    "steps that are no numbers of steps": ({"path_steps": torch.zeros(3)}, "of float32"),
    "a path that is flat": ({"path": torch.zeros(12)}, "path: got (12,)"),
    "a path that is one number": ({"path": torch.tensor(1.0)}, "path: got () of float32"),
    "a path of no point": (
        {"path": torch.zeros(0, 1, 4), "path_steps": torch.zeros(0).long()},
        "path_steps: got (0,)",
    ),
    "a path of another width": ({"path": torch.zeros(3, 1, 5)}, "path: got (3, 1, 5)"),
    "a path of another K": ({"path": torch.zeros(3, 2, 4)}, "path: got (3, 2, 4)"),
    "a path without steps": ({"path_steps": None}, "path_steps: got none"),
    "steps without a path": ({"path": None}, "path: got none"),
    "vectors that are flat": ({"mem": torch.zeros(4)}, "mem: got (4,)"),
    "a probe in part": ({"probe_cuts": None}, "probe_cuts: got none"),
    "a probe of three contexts": ({"probe_nats": torch.zeros(3, 3, 5)}, "probe_nats: got (3, 3"),
    "a probe of no other text": ({"probe_nats": torch.zeros(4, 1, 5)}, "probe_nats: got (4, 1"),
    "cuts of other layers": ({"probe_cuts": torch.zeros(2, 2, 2)}, "probe_cuts: got (2, 2, 2)"),
    "items without answers": ({"probe_items": None}, "probe_items: got none"),
    "answers that are no choice": (
        {"probe_items": torch.full((2, 5), 4)},
        "probe_items: got (2, 5) of int64",
    ),
    "answers that are no numbers": ({"probe_items": torch.zeros(2, 5)}, "of float32"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_inconsistent_record_gives_a_one_line_error(tmp_path, case):
    whole = {field.name: torch.zeros(2) for field in fields(TokenRecord)}
    whole |= {"mem": torch.zeros(1, 4), "path": torch.zeros(3, 1, 4)}
    whole |= {"path_steps": torch.tensor([0, 2, 1])}
    whole |= {"probe_nats": torch.zeros(4, 3, 5), "probe_attention": torch.zeros(2, 2, 3)}
    whole |= {"probe_cuts": torch.zeros(2, 3, 2), "probe_item_nats": torch.zeros(3, 2, 4)}
    whole |= {"probe_items": torch.zeros(2, 5).long()}
    file = tmp_path / "task.safetensors"
    changes, words = SHAPES[case]
    for tensors in (whole, whole | changes):
        kept = {name: value for name, value in tensors.items() if value is not None}
        file.write_bytes(safetensors.torch.save(kept))
        if tensors is whole:
            read_record(file)
    with pytest.raises(UsageError) as raised:
        read_record(file)
    assert str(raised.value).startswith(f"{str(file)!r} is damaged: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_record_unlike_its_row_gives_a_one_line_error(place, measured, capsys):
    store = measured(place / "small.toml", limit=1)
    [row] = store.rows()
    file = store.vectors_path(row.task)
    tensors = safetensors.torch.load(file.read_bytes())
    file.write_bytes(safetensors.torch.save(tensors | {"mem": tensors["mem"][:, 1:].clone()}))
    assert run(["study", "report", str(store.folder), "-o", str(place / "report")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"{row.task}.safetensors' is damaged: mem: got (1, {row.width - 1})" in err
    assert not (place / "report").exists()


def test_row_is_committed_after_its_vectors(place, measured, monkeypatch):
    """At every commit, each row has a complete file of vectors."""
    commits = []
    add = Store.add

    def watched(self, rows, run):
        add(self, rows, run)
        with sqlite3.connect(self.folder / "store.sqlite") as other:
            seen = [one[0] for one in other.execute("SELECT task FROM rows")]
        other.close()
        for task in seen:
            assert len(self.record(task).ids) > 0
        commits.append(len(seen))

    monkeypatch.setattr("memcram.study.worker._GROUP", 4)
    monkeypatch.setattr(Store, "add", watched)
    store = measured(place / "small.toml")
    assert len(commits) > 2
    assert commits[-1] == len(store.rows())


def test_no_row_if_its_vectors_cannot_be_written(place, measured, monkeypatch):
    def full(path, data):
        raise UsageError(f"{str(path)!r} could not be written (No space left on device)")

    measured(place / "small.toml", limit=1)
    monkeypatch.setattr("memcram.study.store.write_atomically", full)
    with pytest.raises(UsageError, match="No space left"):
        measured(place / "small.toml")
    assert len(Store(place / "small.study").rows()) == 1


class FullAfter:
    """The disk is full from the n-th file on."""

    def __init__(self, writes):
        self.writes, self.fsync = writes, os.fsync

    def __call__(self, handle):
        if not Path(f"/proc/self/fd/{handle}").is_dir():
            self.writes -= 1
            if self.writes < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.fsync(handle)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("writes", [0, 1, 6])
def test_full_disk_gives_a_one_line_error_and_can_be_resumed(
    place, whole, monkeypatch, capsys, writes
):
    monkeypatch.setattr("memcram.study.worker._GROUP", 2)
    monkeypatch.setattr(os, "fsync", FullAfter(writes))
    assert run(["study", "run", str(place / "small.toml"), "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "No space left on device" in err
    assert not list(place.rglob("*.tmp"))
    if writes > 1:
        assert "4 of 15 texts are kept in" in err
    monkeypatch.undo()
    assert run(["study", "run", str(place / "small.toml"), "--device", "cpu", "--json"]) == 0
    assert_same(Store(place / "small.study"), whole)


SQLITE_FULL = """
import resource, signal, sys
from memcram.cli import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run(["study", "run", sys.argv[2], "--device", "cpu"]))
"""


@pytest.mark.slow
def test_full_database(place, measured, write_spec):
    """A limit on file sizes stops SQLite as a full disk would."""
    path = write_spec(("samples = 3", "samples = 40"), ("passage_chars = 60", "passage_chars = 20"))
    command = [sys.executable, "-c", SQLITE_FULL, "110000", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    kept = len(Store(place / "small.study").rows())
    assert 0 < kept < 200
    assert f"{kept} of 200 texts are kept" in done.stderr
    store = measured(path)
    assert len(store.rows()) == len({row.task for row in store.rows()}) == 200
