"""A file is written whole or not at all, and by one process at a time."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from memcram import UsageError
from memcram.files import (
    check_creatable,
    check_writable,
    is_locked,
    locked,
    new_folder,
    write_atomically,
)


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "fdopen", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(UsageError, match=r"a\.bin.*No space left"):
        write_atomically(path, b"new" * 1000)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_write_replaces_and_respects_the_umask(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    previous = os.umask(0o027)
    try:
        write_atomically(path, b"new")
    finally:
        os.umask(previous)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        check_writable(tmp_path / "nowhere" / "a", force=True)
    with pytest.raises(UsageError, match="could not be written"):
        write_atomically(tmp_path / "nowhere" / "a", b"x")


def test_existing_file_needs_force_and_a_folder_is_never_replaced(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="force=True"):
        check_writable(path, force=False)
    check_writable(path, force=True)
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path, force=True)


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("長" * 85)  # 255 bytes
    check_writable(path, force=False)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("check", [check_creatable, lambda path: check_writable(path, force=True)])
def test_a_longer_name_is_refused_before_any_work(tmp_path, check):
    with pytest.raises(UsageError, match=r"output: .*File name too long"):
        check(tmp_path / ("長" * 86))


def test_a_folder_that_cannot_be_replaced_is_unchanged(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "old").write_text("old")
    replace = Path.replace

    def fails(path, target):
        if Path(target) == folder and (path / "new").exists():
            no_space()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fails)
    written = pytest.raises(UsageError, match=r"a' could not be written")
    with written, new_folder(folder, replace=True) as place:
        (place / "new").write_text("new")
    monkeypatch.undo()
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert [one.name for one in folder.iterdir()] == ["old"]
    with new_folder(folder, replace=True) as place:
        (place / "new").write_text("new")
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert [one.name for one in folder.iterdir()] == ["new"]


def test_a_lock_is_seen_without_disturbing_its_owner(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    with locked(path, "it"):
        assert is_locked(path)
        assert path.read_text() == f"{os.getpid()}\n"
    assert not is_locked(path)


def test_a_lock_held_for_a_moment_does_not_refuse_a_writer(tmp_path):
    path, held = tmp_path / "lock", threading.Event()

    def look():
        with locked(path, "it"):
            held.set()
            time.sleep(0.1)

    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    with locked(path, "it"):
        thread.join()
