"""A study killed at any moment and resumed has the rows of an uninterrupted run."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from memcram.cli import run
from memcram.study.store import Store

PROSE = "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "
SPEC = """\
name = "killed"
models = ["{model}"]
vectors = [1, 2]
lengths = [6, 12]
samples = 12
steps = 60

[[texts]]
name = "mine"
source = "files"
path = "a.txt"
passage_chars = 40
"""
TEXTS = 48


def start(folder):
    # Small groups, so that kills fall before, between and in commits.
    program = "import memcram.study.worker as w; w._GROUP = 4; from memcram.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "study", "run", "killed.toml", "--device", "cpu", "-q"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def settled(store):
    """Rows without their seconds, and the bytes of their vectors."""
    rows = [asdict(row) | {"seconds": None} for row in store.rows()]
    return rows, [store.vectors_path(row["task"]).read_bytes() for row in rows]


def prepare(folder, model):
    (folder / "a.txt").write_text(PROSE * 12)
    (folder / "killed.toml").write_text(SPEC.format(model=model))


@pytest.fixture(scope="module")
def undisturbed(tiny_folder, tmp_path_factory):
    """Contents of the store after an uninterrupted run, and the seconds it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    prepare(folder, tiny_folder)
    began = time.monotonic()
    process = start(folder)
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()
    return settled(Store(folder / "killed.study")), time.monotonic() - began


def check_kept(store, before):
    """List the tasks with a row, after checking that none is lost or lacks its vectors."""
    if not store.is_dir():  # killed before it was created
        assert not before
        return []
    opened = Store(store)
    tasks = [row.task for row in opened.rows()]
    assert len(set(tasks)) == len(tasks)
    assert set(before) <= set(tasks)
    assert all(len(opened.record(task).ids) for task in tasks)
    opened.close()
    return tasks


def test_killed_after_the_first_commit(tiny_folder, tmp_path):
    folder, calm = tmp_path / "killed", tmp_path / "calm"
    for place in (folder, calm):
        place.mkdir()
        prepare(place, tiny_folder)
    store, kept = folder / "killed.study", []
    process = start(folder)
    while process.poll() is None and not kept:
        time.sleep(0.005)
        kept = check_kept(store, kept)
    process.kill()
    process.communicate()
    kept = check_kept(store, kept)
    assert 0 < len(kept) < TEXTS
    for place in (folder, calm):
        assert run(["study", "run", str(place / "killed.toml"), "--device", "cpu", "--json"]) == 0
    assert settled(Store(store)) == settled(Store(calm / "killed.study"))
    assert not list(store.glob("vectors/.*.tmp"))


@pytest.mark.slow
def test_killed_at_random_moments(tiny_folder, undisturbed, tmp_path):
    whole, seconds = undisturbed
    kills, draw = 20, random.Random(20)
    killed = resumed = rounds = 0
    while killed < kills:
        rounds += 1
        folder = tmp_path / f"round{rounds}"
        folder.mkdir()
        prepare(folder, tiny_folder)
        store, kept = folder / "killed.study", []
        while True:
            process = start(folder)
            moment = draw.uniform(0.5, 1.0) * seconds if killed < kills else None
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            process.kill()
            _, err = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), err.decode()
            killed += process.returncode != 0
            resumed += 0 < len(kept) < TEXTS
            kept = check_kept(store, kept)
            if process.returncode == 0:
                break
        found = Store(store)
        assert settled(found) == whole
        assert sum(one["texts"] for one in found.runs()) == len(found.rows()) == TEXTS
        assert not list(store.glob("vectors/.*.tmp"))
    assert resumed
