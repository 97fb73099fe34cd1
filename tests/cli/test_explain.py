"""`memcram explain` and `memcram study report`, as far as they need no store."""

import json
import re

import pytest

import memcram
from memcram.cli import run


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_lm):
    """A working folder with an archive of eight tokens."""
    monkeypatch.chdir(tmp_path)
    memcram.compress("No lamp.", tiny_lm, chunk_tokens=8, steps=2).write("a.mem.safetensors")
    return tmp_path


def test_a_page_of_an_archive(folder, capsys):
    assert run(["explain", "a.mem.safetensors", "-o", "a.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tokens"] == 8
    assert told["output"] == "a.html"
    page = (folder / "a.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert 'id="data"' in page


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["nothing", "-o", "x.html"], "ARCHIVE|STORE: 'nothing' does not exist"),
        (["a.mem.safetensors", "poem", "-o", "x.html"], "TEXT_ID: got 'poem'"),
        (["a.mem.safetensors", "-o", "a.mem.safetensors"], "pass --force"),
        (["a.mem.safetensors", "-o", "no/x.html"], "the folder 'no' does not exist"),
        (["a.mem.safetensors", "-o", "-", "--json"], "--json: stdout already carries"),
        ([".", "-o", "x.html", "--device", "cpu"], "--device: not used with a STORE"),
        (["a.mem.safetensors"], "Missing option '-o'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(folder, capsys, arguments, names):
    before = sorted(folder.iterdir())
    assert run(["explain", *arguments]) == 2
    out, err = capsys.readouterr()
    assert names in err
    assert (out, err.count("\n")) == ("", 1)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], r"STORE\|CSV: got none"),
        (["some.study", "--published"], r"STORE\|CSV: got both"),
        (["--published", "--force"], "--output: .* holds files that are not part of a report"),
    ],
)
def test_a_report_that_can_not_be(tmp_path, capsys, arguments, names):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run(["study", "report", *arguments, "-o", str(tmp_path)]) == 2
    assert re.search(names, capsys.readouterr().err)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]
