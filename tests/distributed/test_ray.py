"""Studies and texts on a real Ray cluster of two workers on this machine."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from memcram.archive import Archive
from memcram.cli import run
from memcram.study.store import Store
from stored import assert_same

ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs pip install 'memcram[ray]'"
)
PROSE = "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "
SPEC = """\
name = "shared"
kind = "seeds"
models = ["{model}"]
recipes = ["default", "tarasov2026+low-dim@in_group=true,group_size=10,k=4"]
starts = 2
vectors = [1, 2]
lengths = [12, 20]
samples = 10
steps = {steps}

[[texts]]
name = "mine"
source = "files"
path = "a.txt"
passage_chars = 40
"""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
# Two recipes, two K, two lengths, ten texts, two inits and nine points between them.
TEXTS = 2 * 2 * 2 * 10 * (2 + 9)

KILL_ONE = """
import json, os, signal, sys
from pathlib import Path
from memcram.distributed.pool import Cluster, RayBackend
from memcram.distributed.study import RayWorkers
from memcram.study import open_store, read_spec, run_study

spec = read_spec(Path("shared.toml"))
labels, killed = [], []
with Cluster(RayBackend(workers=2)) as cluster:
    workers = RayWorkers(cluster)

    def on_progress(state):
        labels.append(state.label)
        busy = [m for m in workers._pool._members if m.events is not None] if state.done else []
        if busy and not killed:
            pid = cluster.ray.get(busy[-1].actor.__ray_call__.remote(lambda _: os.getpid()))
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    store = open_store(Path("shared.study"), spec)
    with store.lock():
        run_study(spec, store, workers=workers, on_progress=on_progress)
    listening = [one["NodeManagerAddress"] for one in cluster.ray.nodes()]
print(json.dumps({"labels": labels, "killed": killed, "listening": listening}))
"""


def prepare(folder, model, steps):
    (folder / "a.txt").write_text(PROSE * 12)
    (folder / "shared.toml").write_text(SPEC.format(model=model, steps=steps))


def start(folder, *words, **more):
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@ray
def test_store_of_two_workers_one_of_which_is_killed_is_that_of_a_local_run(tmp_path, tiny_folder):
    before = set(Path("/tmp").glob("ray-*"))
    prepare(tmp_path, tiny_folder, steps=60)
    process = start(tmp_path, "-c", KILL_ONE)
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert len(found["killed"]) == 1
    assert any("was lost and is replaced" in label for label in found["labels"])
    assert found["listening"] == ["127.0.0.1"]
    words = ["study", "run", "shared.toml", "--store", "local.study", "--device", "cpu", "-q"]
    local = start(tmp_path, "-m", "memcram", *words)
    _, err = local.communicate()
    assert local.returncode == 0, err
    one, other = Store(tmp_path / "shared.study"), Store(tmp_path / "local.study")
    assert len(one.rows()) == TEXTS
    assert_same(one, other)
    [record] = one.runs()
    assert record["texts"] == TEXTS
    assert record["settings"]["workers"]["count"] == 2
    assert set(Path("/tmp").glob("ray-*")) <= before


@pytest.mark.slow
@ray
def test_ctrl_c_keeps_rows_and_leaves_no_process(tmp_path, tiny_folder):
    prepare(tmp_path, tiny_folder, steps=400)
    words = ["study", "run", "shared.toml", "--backend", "ray", "--workers", "2", "-q"]
    process = start(tmp_path, "-m", "memcram", *words)
    store = tmp_path / "shared.study"
    while process.poll() is None:
        time.sleep(0.2)
        if store.is_dir() and Store(store).counts().done:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate()
    assert process.returncode == 130, err
    kept = len(Store(store).rows())
    assert 0 < kept < TEXTS
    assert "\n" not in err.strip()
    assert err.strip().startswith(f"memcram: interrupted; {kept} of {TEXTS} texts ")
    assert "kept in 'shared.study'; run the command again to continue" in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.fixture
def head():
    """Address of a cluster of two cores that another command started, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray-head-", dir="/tmp") as folder:  # a short path
        words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
        words += ["--include-dashboard=false", f"--temp-dir={folder}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *words],
            # Listens on the loopback device only.
            env=os.environ
            | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
            | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
            | TOKEN,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        for line in process.stdout:
            said.append(line)
            if "block forever" in line:
                break
        assert process.poll() is None, "".join(said)
        yield f"127.0.0.1:{port}", process
        process.terminate()
        process.communicate()


@pytest.mark.slow
@ray
def test_cluster_that_runs_already_is_used_and_left_running(tmp_path, tiny_folder, head):
    address, process = head
    prepare(tmp_path, tiny_folder, steps=20)
    usual = ["-m", "memcram", "study", "run", "shared.toml", "-q"]
    shared = [*usual, "--store", "ray.study", "--backend", "ray", "--address", address]
    asked = start(tmp_path, *shared, "--workers", "3", **TOKEN)
    _, err = asked.communicate()
    assert asked.returncode == 2
    assert err == (
        "memcram: --workers: 3 workers need 3 CPU cores, allowed: as many as the 2 of the cluster "
        "suffice for\n"
    )
    for words in ([*shared, "--workers", "2"], [*usual, "--device", "cpu", "--store", "a.study"]):
        one = start(tmp_path, *words, **TOKEN)
        _, err = one.communicate()
        assert one.returncode == 0, err
    assert_same(Store(tmp_path / "ray.study"), Store(tmp_path / "a.study"))
    assert process.poll() is None


TWICE = """
from memcram.distributed.pool import Cluster, RayBackend
for _ in range(2):
    with Cluster(RayBackend(workers=1)):
        print("started")
"""


@pytest.mark.slow
@ray
def test_one_process_can_start_a_second_cluster(tmp_path):
    process = start(tmp_path, "-c", TWICE)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.split() == ["started"] * 2


@pytest.mark.slow
@ray
def test_compressing_on_two_workers_gives_the_same_chunks(tmp_path, tiny_folder):
    (tmp_path / "a.txt").write_text(PROSE * 4)
    usual = ["compress", "a.txt", "--model", str(tiny_folder), "--steps", "60", "--json", "-q"]
    usual += ["--chunk-tokens", "12", "--device", "cpu"]
    found = {}
    for name, more in (("local", []), ("ray", ["--backend", "ray", "--workers", "2"])):
        process = start(tmp_path, "-m", "memcram", *usual, "-o", name, *more)
        out, err = process.communicate()
        assert process.returncode == 0, err
        found[name] = json.loads(out)
        assert err == ""
        assert run(["decompress", str(tmp_path / name), "-o", str(tmp_path / f"{name}.txt")]) == 0
        assert (tmp_path / f"{name}.txt").read_text() == PROSE * 4
    one, other = (Archive.read(tmp_path / name).manifest for name in found)
    assert one.tensors_sha256 == other.tensors_sha256
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "words",
    [
        ["study", "run", "shared.toml"],
        ["compress", "a.txt", "--model", "{model}"],
    ],
)
def test_without_the_extra_one_line_names_it(tmp_path, tiny_folder, capsys, monkeypatch, words):
    prepare(tmp_path, tiny_folder, steps=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    before = sorted(tmp_path.iterdir())
    words = [word.format(model=tiny_folder) for word in words]
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        assert run([*words, "--backend", "ray", "--workers", "2"]) == 2
    err = capsys.readouterr().err
    assert err == (
        "memcram: --backend: studies and texts on several workers need ray: "
        "pip install 'memcram[ray]'\n"
    )
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("option", ["--workers", "--gpus", "--cpus-per-worker", "--address"])
def test_options_of_ray_need_it(tmp_path, capsys, option):
    (tmp_path / "a.txt").write_text(PROSE)
    for words in (["study", "run", "none.toml"], ["compress", str(tmp_path / "a.txt")]):
        assert run([*words, option, "2"]) == 2
        assert capsys.readouterr().err == f"memcram: {option}: allowed only with --backend ray\n"
