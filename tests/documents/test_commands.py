"""Command lines in the documents: they parse, name every command, and print what is shown."""

import shutil
from pathlib import Path

import click
import pytest

from documents.pages import (
    NAMES,
    ROOT,
    all_commands,
    blocks,
    command_lines,
    examples,
    inline_commands,
    simple_commands,
    text_of,
)
from memcram.cli import cli, run
from real import weights

WRITTEN = [(name, words) for name in NAMES for words in command_lines(name)]
INLINE = [(name, words) for name in NAMES for words in inline_commands(name)]
# Fields whose values differ from machine to machine.
MEASURED = {
    "archive_bytes",
    "bits_stored",
    "budget_ended",
    "chunk_tokens",
    "chunks",
    "chunks_exact",
    "ci95_tokens",
    "files",
    "max_margin_shift",
    "mean_bits_per_dimension",
    "mean_tokens",
    "min_margin",
    "planning_seconds",
    "seconds",
    "seconds_left",
    "seconds_per_1000_token_steps",
    "share_of_bound",
    "std_tokens",
    "token_steps",
    "tokens_per_vector",
    "vectors",
    "versions",
}


@pytest.fixture
def parsed_only(monkeypatch):
    """Commands parse their arguments, and do nothing."""
    monkeypatch.setattr(click.Command, "invoke", lambda command, context: None)


@pytest.mark.parametrize(("name", "words"), WRITTEN, ids=lambda one: str(one)[:60])
def test_command_line_parses(name, words, parsed_only, capsys):
    assert run(words) == 0, capsys.readouterr().err


@pytest.mark.parametrize("words", [["compress"], ["verify", "a", "--steps", "1"], ["crm", "a"]])
def test_wrong_command_line_does_not_parse(words, parsed_only):
    assert run(words) == 2


@pytest.mark.parametrize(("name", "words"), INLINE, ids=lambda one: str(one)[:60])
def test_command_in_running_text_exists(name, words):
    command, rest = cli, list(words)
    while isinstance(command, click.Group) and rest and rest[0][0].islower():
        alternatives = rest.pop(0).split("|")
        assert set(alternatives) <= set(command.commands), alternatives
        command = command.commands[alternatives[0]]
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    given = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    assert given <= options | {"-h", "--help"}


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_command_is_documented(path):
    name = " ".join(["memcram", *path])
    page = text_of("docs/commands.md")
    assert f"<!-- help: {name} -->" in page
    command = cli
    for word in path:
        command = command.commands[word]
    if not isinstance(command, click.Group) or command.invoke_without_command:
        assert f"\n### `{name}`\n" in page
        assert f"\n$ {name}" in page, "an example with its output"


def pages_with(kind):
    """The pages with examples to run."""
    marks = {name: [(one.mark, one.argument) for one in blocks(name)] for name in NAMES}
    return [name for name in NAMES if ("run", kind) in marks[name]]


def compared(output):
    """Lines of an output, without measured values and alignment."""
    lines = [line.split() for line in output.splitlines() if line.strip()]
    return [line[:1] if line[0] in MEASURED else line for line in lines]


def run_examples(name, kind, capsys):
    """Run the marked examples of a page one after the other; compare what the page shows."""
    for block in blocks(name):
        if block.mark == "file":
            Path(block.argument).write_text(block.body, "utf-8")
        if block.mark != "run" or block.argument != kind:
            continue
        for example in examples(block.body):
            ((program, *words),) = simple_commands(example.line)
            assert program == "memcram"
            code = run(words)
            out, err = capsys.readouterr()
            assert code == (2 if example.shown.startswith("memcram: ") else 0), err
            if example.shown:
                assert compared(out + err) == compared(example.shown)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the example texts, and a terminal wide enough for the tables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    for path in (ROOT / "examples").glob("*.txt"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", pages_with(""))
def test_examples_on_pocket(name, folder, capsys):
    run_examples(name, "", capsys)


@pytest.mark.real
@pytest.mark.parametrize("name", pages_with("real"))
def test_examples_on_a_real_model(name, folder, capsys):
    model = weights.smollm2()
    if model is None:
        pytest.skip(f"{weights.SMOLLM2} is not installed")
    (folder / model.name).symlink_to(model)
    shutil.copy(ROOT / "examples/ferry.txt.mem.safetensors", folder)
    run_examples(name, "real", capsys)
