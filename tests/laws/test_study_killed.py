"""SIGKILL at any moment of a study: resumed, its rows equal those of an undisturbed run."""

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
steps = {steps}

[[texts]]
name = "mine"
source = "files"
path = "a.txt"
passage_chars = 40
"""
TEXTS = 48


def start(folder):
    # Small groups, so that a kill falls between commits, in them and before the first.
    program = "import memcram.study.runner as r; r._GROUP = 4; from memcram.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "study", "run", "killed.toml", "--device", "cpu", "-q"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def settled(store):
    """Rows without how long they took, and the bytes of their vectors."""
    rows = [asdict(row) | {"seconds": None} for row in store.rows()]
    return rows, [store.vectors_path(row["task"]).read_bytes() for row in rows]


def prepare(folder, model, steps):
    (folder / "a.txt").write_text(PROSE * 12)
    (folder / "killed.toml").write_text(SPEC.format(model=model, steps=steps))


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_resumed(tiny_folder, tmp_path, kills):
    steps = 20 if kills == 1 else 300
    calm, folder = tmp_path / "calm", tmp_path / "killed"
    for place in (calm, folder):
        place.mkdir()
        prepare(place, tiny_folder, steps)
    began = time.monotonic()
    assert run(["study", "run", str(calm / "killed.toml"), "--device", "cpu", "--json"]) == 0
    seconds = time.monotonic() - began + 4.0  # a process of its own has imports to do
    whole = settled(Store(calm / "killed.study"))
    draw, killed, kept = random.Random(kills), 0, []
    store = folder / "killed.study"
    while killed < kills:
        process = start(folder)
        if kills == 1:  # as soon as there is something to lose
            while process.poll() is None and not (store.is_dir() and Store(store).rows()):
                time.sleep(0.005)
        else:
            # A run that is further on has less to do, so it gets as little time.
            until = time.monotonic() + draw.uniform(0.3, 1.2) * seconds * 3 / kills
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
        process.kill()
        _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), err.decode()
        killed += process.returncode != 0
        if store.is_dir():
            rows = [row.task for row in Store(store).rows()]
            assert len(set(rows)) == len(rows)
            assert set(kept) <= set(rows)
            assert all(len(Store(store).record(task).ids) for task in rows)
            kept = rows
        if process.returncode == 0:
            break
    if kills == 1:
        assert 0 < len(kept) < TEXTS
    assert run(["study", "run", str(folder / "killed.toml"), "--device", "cpu", "--json"]) == 0
    resumed = Store(store)
    assert settled(resumed) == whole
    assert sum(one["texts"] for one in resumed.runs()) == len(resumed.rows()) == TEXTS
    assert not list(store.glob("vectors/.*.tmp"))
