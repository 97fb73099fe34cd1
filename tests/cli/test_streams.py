"""Standard streams: any encoding, closed, full, or a pipe in place of a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import memcram
from memcram.cli import run

TEXT = "The ferry was late.\n"
SMALL = ["--chunk-tokens", "8", "--steps", "20", "--device", "cpu", "-q"]
NAME = ".mem.safetensors"
needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture(scope="module")
def content(tiny_lm):
    return memcram.compress(TEXT, tiny_lm, chunk_tokens=8, steps=20).to_bytes()


@pytest.fixture
def place(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / f"b{NAME}").write_bytes(content)
    return tmp_path


def process(*arguments, encoding="utf-8", stdout=subprocess.PIPE):
    """Run the command in a process of its own, which sets up and flushes its own streams."""
    return subprocess.run(
        [sys.executable, "-m", "memcram", *arguments],
        env=os.environ | {"PYTHONIOENCODING": encoding, "TMPDIR": str(Path.cwd())},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def one_line(err):
    assert err.startswith("memcram: ")
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize(
    ("encoding", "name", "options"),
    [
        ("cp1252", "東京.txt", []),
        ("ascii", "😀é.txt", ["--json"]),
        ("utf-8:strict", os.fsdecode(b"caf\xe9.txt"), ["--json"]),
    ],
)
def test_a_name_that_the_encoding_lacks(place, tiny_folder, encoding, name, options):
    try:
        (place / name).write_text(TEXT)
    except OSError:
        pytest.skip("the file system refuses this name")
    found = process("compress", name, "--model", tiny_folder, *SMALL, *options, encoding=encoding)
    assert found.returncode == 0, found.stderr
    assert (place / (name + NAME)).is_file()
    if options:
        assert json.loads(found.stdout.decode("ascii"))["output"] == name + NAME
    else:
        assert rb"\u6771\u4eac.txt" in found.stdout


def test_help_in_any_encoding(place):
    found = process("study", "new", "--help", encoding="ascii")
    assert found.returncode == 0, found.stderr


@needs_full_disk
def test_an_archive_that_standard_output_does_not_take_is_kept(place, tiny_folder, content):
    with Path("/dev/full").open("wb") as full:
        found = process("compress", "a.txt", "-o", "-", "--model", tiny_folder, *SMALL, stdout=full)
    assert found.returncode == 2
    err = one_line(found.stderr.decode())
    assert "standard output can't be written (No space left on device)" in err
    [kept] = place.glob(f"memcram-*{NAME}")
    assert str(kept) in err
    assert kept.read_bytes() == content


def test_an_archive_whose_reader_has_gone_is_kept(place, tiny_folder, content, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run(["compress", "a.txt", "-o", "-", "--model", str(tiny_folder), *SMALL]) == 2
        monkeypatch.undo()
    [kept] = place.glob(f"memcram-*{NAME}")
    assert str(kept) in one_line(capsys.readouterr().err)
    assert kept.read_bytes() == content


@needs_full_disk
@pytest.mark.parametrize(
    "arguments", [["inspect", f"b{NAME}"], ["inspect", f"b{NAME}", "--json"], ["bound"], ["--help"]]
)
def test_a_report_on_a_full_disk_is_one_line(place, monkeypatch, capsys, arguments):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(arguments) == 2
        monkeypatch.undo()
    assert "standard output can't be written" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("stream", "arguments", "message"),
    [
        ("stdout", ["decompress", f"b{NAME}", "-o", "-"], "--output: standard output is closed"),
        ("stdin", ["compress", "-", "-o", "y"], "TEXT: standard input is closed"),
        ("stdin", ["inspect", "-"], "ARCHIVE: standard input is closed"),
    ],
)
def test_a_closed_stream_is_one_line(place, monkeypatch, capsys, stream, arguments, message):
    monkeypatch.setattr(sys, stream, None)
    assert run(arguments) == 2
    assert message in one_line(capsys.readouterr().err)


def test_a_report_that_nobody_can_read_fails_nothing(place, tiny_folder, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run(["decompress", f"b{NAME}", "--model", str(tiny_folder), "--device", "cpu"]) == 0
    assert (place / "b").read_text() == TEXT


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="needs /dev/fd")
def test_an_archive_is_read_from_a_pipe(place, tiny_folder, content, capsys):
    def piped(data, command, *arguments):
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        code = run([command, f"/dev/fd/{reader}", *arguments])
        os.close(reader)
        return code

    assert run(["inspect", f"b{NAME}"]) == 0
    by_name = capsys.readouterr().out.splitlines()
    assert piped(content, "inspect") == 0
    assert capsys.readouterr().out.splitlines()[1:] == by_name[1:]
    assert piped(content, "decompress", "--model", str(tiny_folder), "-o", "b") == 0
    assert (place / "b").read_text() == TEXT
    capsys.readouterr()
    assert piped(content[:99], "inspect") == 3
    one_line(capsys.readouterr().err)


def test_without_fcntl(place, tiny_folder):
    """Chunks are kept and their folder is locked, as on systems that lack the module."""
    code = (
        "import sys; sys.modules['fcntl'] = None; from memcram.cli import run; "
        "import memcram.archive.partial as partial; partial._FLUSH_SECONDS = 0; "
        "sys.exit(run(sys.argv[1:]))"
    )
    arguments = ["compress", "a.txt", "--model", str(tiny_folder), *SMALL]
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr.decode()
    left = {path.name for path in place.iterdir()}
    assert left == {"a.txt", f"a.txt{NAME}", f"b{NAME}"}
