"""Errors name the Python argument in the library, and the option on the command line."""

import ast
import re
from pathlib import Path

import pytest

import memcram
import memcram.study.worker  # here, or it keeps the `load_lm` that a test replaces
from memcram.cli import run

SOURCE = Path(memcram.__file__).parent
FLAG = re.compile(r"(^|[\s(])--?[a-z]|^[A-Z_]+:")


def messages(path):
    """String literals in the `raise` statements of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


def test_no_error_of_the_library_names_a_flag():
    files = [path for path in SOURCE.rglob("*.py") if path.parent.name != "cli"]
    assert len(files) > 50
    named = [(path.name, text) for path in files for text in messages(path) if FLAG.search(text)]
    assert named == []


@pytest.mark.parametrize("text", ["--steps: got 0", "TEXT: empty", "pass --force", "-o: exists"])
def test_a_flag_is_recognised(text):
    assert FLAG.search(text)


@pytest.mark.parametrize(
    ("arguments", "options", "problem"),
    [
        ({"vectors": 129}, ["--vectors", "129"], "got 129, allowed: at most 128 "),
        ({"chunk_tokens": 129}, ["--chunk-tokens", "129"], "got 129, allowed: 1 to 128 "),
        ({"recipe": "fast"}, ["--recipe", "fast"], "got 'fast', allowed: default"),
    ],
)
def test_both_name_an_argument_in_their_own_way(
    tiny_lm, tiny_folder, tmp_path, monkeypatch, capsys, arguments, options, problem
):
    [name] = arguments
    with pytest.raises(memcram.UsageError) as caught:
        memcram.compress("A lamp.", tiny_lm, **arguments)
    assert str(caught.value).startswith(f"{name}: {problem}")
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("A lamp.")
    model = ["--model", str(tiny_folder), "--device", "cpu"]
    assert run(["compress", "a.txt", *model, *options]) == 2
    assert capsys.readouterr().err.startswith(f"memcram: {options[0]}: {problem}")


def test_what_force_would_do(tiny_lm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("A lamp.")
    path = Path("a.txt.mem.safetensors")
    path.write_bytes(b"mine")
    archive = memcram.compress("A lamp.", tiny_lm, steps=1)
    with pytest.raises(memcram.UsageError, match=r"^output: .* exists; pass force=True to replace"):
        archive.write(path)
    assert run(["compress", "a.txt"]) == 2
    err = capsys.readouterr().err
    assert err == f"memcram: --output: {str(path)!r} exists; pass --force to replace it\n"
    assert path.read_bytes() == b"mine"


def test_text_and_recipe_are_refused_before_the_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("memcram.models.load_lm", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("A lamp.")
    Path("bad.txt").write_bytes(b"caf\xe9")
    for command in ("compress", "plan", "horizon"):
        assert run([command, "bad.txt"]) == 2
        line = "TEXT: 'bad.txt' is not UTF-8 (byte 0xe9 at offset 3)"
        assert capsys.readouterr().err == f"memcram: {line}\n"
        assert run([command, "a.txt", "--recipe", "fast"]) == 2
        assert capsys.readouterr().err.startswith("memcram: --recipe: got 'fast'")


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["bound", "no model"], "memcram: MODEL: 'no model' is not"),
        (["decompress", "a.txt"], "memcram: ARCHIVE: 'a.txt' does not end in"),
        (["verify"], "memcram: Missing argument 'ARCHIVE'"),
    ],
)
def test_an_error_names_the_argument_as_the_usage_does(words, start, capsys):
    assert run(words) == 2
    assert capsys.readouterr().err.startswith(start)


def test_a_word_instead_of_a_number(capsys):
    assert run(["compress", "a.txt", "--steps", "ten"]) == 2
    assert "'ten' is not a valid whole number" in capsys.readouterr().err
