"""Killed, interrupted, out of disk: never half a file, always a sentence, and it can go on."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch

import memcram
import memcram.archive.partial
import tiny
from memcram.cli import run

TEXT = (
    "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "
    "Marta counted the boats twice; there were eleven, and the twelfth was her brother's. "
) * 8
PARTIAL, ARCHIVE = "a.txt.partial", "a.txt.mem.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model"), tiny.llama_config())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path


def arguments(model, chunk_tokens="16"):
    options = ["--chunk-tokens", chunk_tokens, "--steps", "60"]
    return ["compress", "a.txt", "--model", str(model), *options]


def start(model, folder, chunk_tokens="16"):
    return subprocess.Popen(
        [sys.executable, "-m", "memcram", *arguments(model, chunk_tokens), "--device", "cpu"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def undisturbed(model, tmp_path_factory):
    """Content of the archive, and the seconds it took."""
    return run_undisturbed(model, tmp_path_factory.mktemp("undisturbed"), TEXT, "16")


def run_undisturbed(model, folder, text, chunk_tokens):
    (folder / "a.txt").write_text(text)
    began = time.monotonic()
    process = start(model, folder, chunk_tokens)
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", ARCHIVE]
    return (folder / ARCHIVE).read_bytes(), time.monotonic() - began


def finished(folder):
    """Starts of the chunks that are kept in the partial folder."""
    starts = []
    for path in (folder / PARTIAL).glob("chunks-*.safetensors"):
        starts += safetensors.torch.load(path.read_bytes())["starts"].tolist()
    assert len(starts) == len(set(starts)), "a finished chunk was crammed again"
    return set(starts)


def watch(process, folder, whole, until):
    """Wait until `until` (monotonic seconds) or the end; the final name holds all or nothing."""
    while process.poll() is None and time.monotonic() < until:
        if (folder / ARCHIVE).exists():
            assert (folder / ARCHIVE).read_bytes() == whole
        time.sleep(0.005)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_and_resumed(model, tmp_path, kills):
    # Six bytes a chunk: some come out right early, others after all their starts, so that most
    # kills fall where some chunks are kept.
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    text = TEXT[:688]
    whole = run_undisturbed(model, folder, text, "6")
    kill_and_resume(model, whole, tmp_path, kills, text, "6")


@pytest.mark.slow
def test_killed_while_cutting_to_fit_on_trained_weights(tmp_path):
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    text = TEXT[:250]
    whole = run_undisturbed("pocket", folder, text, "auto")
    kill_and_resume("pocket", whole, tmp_path, 20, text, "auto")


def kill_and_resume(model, undisturbed, tmp_path, kills, text, chunk_tokens):
    whole, seconds = undisturbed
    draw = random.Random(kills)
    killed = resumed = runs = 0
    while killed < kills:
        runs += 1
        folder = tmp_path / f"run{runs}"
        folder.mkdir()
        (folder / "a.txt").write_text(text)
        kept = set()
        while True:
            process = start(model, folder, chunk_tokens)
            moment = draw.uniform(0.2, 1.0) * seconds if killed < kills else float("inf")
            watch(process, folder, whole, time.monotonic() + moment)
            process.kill()
            _, err = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, err.decode()
            killed += 1
            if (folder / ARCHIVE).exists():  # killed while the partial folder was being removed
                assert (folder / ARCHIVE).read_bytes() == whole
                break
            now = finished(folder)
            assert kept <= now
            resumed += bool(kept)
            kept = now
        assert (folder / ARCHIVE).read_bytes() == whole
        left = {path.name for path in folder.iterdir()} - {"a.txt", ARCHIVE}
        if process.returncode == 0:
            assert not [name for name in left if not name.endswith(".tmp")]
    lm = memcram.load_lm(str(model), device="cpu")
    assert memcram.decompress(memcram.Archive.from_bytes(whole), lm) == text.encode()
    sys.stdout.write(f"{killed} kills, {resumed} with finished chunks kept, {runs} runs\n")
    assert resumed or kills < 20


def test_ctrl_c_twice(model, undisturbed, place):
    whole, _ = undisturbed
    process = start(model, place)
    while not list(place.glob(f"{PARTIAL}/chunks-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    line = err.decode().strip()
    assert process.returncode == 130, line
    assert out == b""
    assert "\n" not in line
    assert line.startswith("memcram: interrupted; ")
    assert f"chunks are kept in '{PARTIAL}'; run the command again to continue" in line
    assert sorted(path.name for path in place.iterdir()) == ["a.txt", PARTIAL]
    assert int(line.split()[2]) == len(finished(place))
    process = start(model, place)
    process.communicate()
    assert (place / ARCHIVE).read_bytes() == whole
    assert sorted(path.name for path in place.iterdir()) == ["a.txt", ARCHIVE]


def test_killed_before_the_job_was_written(pocket, tmp_path):
    folder = tmp_path / "a.partial"
    folder.mkdir()
    (folder / ".job.json.abc123.tmp").write_bytes(b'{"mod')
    archive = memcram.compress("A lamp.", pocket, steps=2, partial=folder)
    assert memcram.decompress(archive, pocket) == b"A lamp."


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullAfter:
    """The disk is full from the n-th flush to disk on."""

    def __init__(self, writes):
        self.writes, self.fsync = writes, os.fsync

    def __call__(self, handle):
        if not Path(f"/proc/self/fd/{handle}").is_dir():
            self.writes -= 1
            if self.writes < 0:
                no_space()
        self.fsync(handle)


def refusal(capsys, model):
    assert run(arguments(model)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().count("\n") == 0, err
    assert "No space left" in err
    return err


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_disk_full_while_chunks_are_kept(model, undisturbed, place, monkeypatch, capsys, writes):
    monkeypatch.setattr(memcram.archive.partial, "_FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(os, "fsync", FullAfter(writes))
    line = refusal(capsys, model)
    assert not (place / ARCHIVE).exists()
    assert not list(place.rglob("*.tmp"))
    assert len(list(place.glob(f"{PARTIAL}/chunks-*"))) == max(0, writes - 1)
    if writes > 1:
        assert f"are kept in '{PARTIAL}'" in line
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert run(arguments(model)) == 0
    assert (place / ARCHIVE).read_bytes() == undisturbed[0]
    assert not (place / PARTIAL).exists()


def test_disk_full_while_the_archive_is_written(model, undisturbed, place, monkeypatch, capsys):
    replace = Path.replace

    def full(self, to):
        return no_space() if Path(to).name == ARCHIVE else replace(self, to)

    monkeypatch.setattr(Path, "replace", full)
    line = refusal(capsys, model)
    assert f"all chunks are kept in '{PARTIAL}'; run the command again to continue" in line
    assert sorted(path.name for path in place.iterdir()) == ["a.txt", PARTIAL]
    monkeypatch.undo()
    monkeypatch.chdir(place)
    # Nothing is crammed again: the engine would say so.
    monkeypatch.setattr("memcram.engine.loop.Engine._turn", None)
    assert run(arguments(model)) == 0
    assert (place / ARCHIVE).read_bytes() == undisturbed[0]


def test_read_only_folder_is_refused_before_any_work(model, place, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("memcram.engine.loop.Engine._turn", None)
    assert run(arguments(model)) == 2
    line = capsys.readouterr().err
    assert "not writable" in line
    assert line.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["a.txt"]


AS_NOBODY = """
import os, sys
from memcram.cli import run
if os.geteuid() == 0:  # root writes anywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs users and permissions of POSIX")
def test_a_folder_that_really_is_read_only(model, place):
    place.chmod(0o555)
    try:
        found = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *arguments(model)], capture_output=True, check=False
        )
    finally:
        place.chmod(0o755)
    err = found.stderr.decode()
    assert found.returncode == 2, err
    assert err == "memcram: --output: the folder '.' is not writable\n"
    assert [path.name for path in place.iterdir()] == ["a.txt"]


def test_a_folder_that_goes_away_meanwhile(model, place, capsys, monkeypatch):
    (place / "out").mkdir()

    def gone(*_, **__):
        shutil.rmtree(place / "out")
        raise KeyboardInterrupt

    monkeypatch.setattr("memcram.engine.loop.Engine._turn", gone)
    assert run([*arguments(model), "-o", "out/b"]) == 130
    assert capsys.readouterr().err.strip() == "memcram: interrupted; nothing was written"
    assert [path.name for path in place.iterdir()] == ["a.txt"]
