"""Shell completion: the scripts, what is offered, and that torch is not imported for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete

from memcram.cli import cli, complete, run
from memcram.export import EXPORTERS, IMPORTERS
from memcram.models import packaged_models
from memcram.recipes import RECIPES

# Runs the command line as the shell does, and prints what was imported instead of what is offered.
IMPORTED = """
import contextlib, os, sys
with contextlib.redirect_stdout(open(os.devnull, "w")), contextlib.suppress(SystemExit):
    from memcram.cli import main
    main()
print(*sys.modules)
"""
SOURCED = """
source "$1"
COMP_WORDS=(memcram compress --recipe tar) COMP_CWORD=3
_memcram_completion "$2"
echo "${COMPREPLY[@]}"
"""


def offered(*words):
    """What is offered for the last word, as (type, value)."""
    found = BashComplete(cli, {}, "memcram", "_MEMCRAM_COMPLETE").get_completions(
        list(words[:-1]), words[-1]
    )
    return [(one.type, one.value) for one in found]


def plain(*names):
    return [("plain", name) for name in names]


def test_names_are_those_of_the_tables():
    assert list(RECIPES) == list(complete.RECIPE_NAMES)
    assert list(EXPORTERS) == list(complete.EXPORT_NAMES)
    assert list(IMPORTERS) == list(complete.IMPORT_NAMES)
    assert list(packaged_models()) == list(complete.MODEL_NAMES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], plain("completion", "compress")),
        (["compress", "po"], [("file", "po")]),
        (["compress", "a.txt", "-o", ""], [("file", "")]),
        (["compress", "a.txt", "--recipe", "kur"], plain("kuratov2025", "kuratov2025+t1")),
        (["compress", "a.txt", "--model", ""], plain("pocket")),
        (["compress", "a.txt", "--model", "./"], [("file", "./")]),
        (["compress", "a.txt", "--dtype", "b"], plain("bfloat16")),
        (["export", ""], plain("transformers", "peft", "vllm", "llama-cpp")),
        (["export", "peft", ""], [("file", "")]),
        (["import", ""], plain("peft")),
        (["study", "s"], plain("status")),
        (["bound", "pocket", "po"], plain("pocket")),
        (["completion", ""], plain("bash", "zsh", "fish")),
    ],
)
def test_what_is_offered(words, expected):
    assert offered(*words) == expected


def parameters(command):
    for one in getattr(command, "commands", {}).values():
        yield from parameters(one)
    yield from command.params


def test_every_path_is_completed():
    paths = {
        "text",
        "texts",
        "archive",
        "output",
        "init",
        "source",
        "config",
        "model",
        "store",
        "stores",
        "spec",
    }
    found = [
        one
        for one in parameters(cli)
        if one.name in paths and not isinstance(one.type, click.Choice)  # `compress --store DTYPE`
    ]
    assert len(found) > 30
    for one in found:
        assert one.shell_complete(None, "./x"), one


@pytest.mark.parametrize(
    ("words", "number"), [("memcram compress --recipe d", 3), ("memcram export ", 2)]
)
def test_torch_is_not_imported(words, number):
    environment = os.environ | {
        "_MEMCRAM_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(number),
    }
    found = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(found.stdout.split())
    assert "memcram.cli.complete" in imported
    assert not imported & {"torch", "transformers", "numpy", "pydantic"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_memcram(shell, capsys):
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_MEMCRAM_COMPLETE={shell}_complete" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(capsys, tmp_path):
    assert run(["completion", "bash"]) == 0
    script = tmp_path / "memcram.bash"
    script.write_text(capsys.readouterr().out)
    command = tmp_path / "memcram"
    command.write_text(f'#!/bin/sh\nexec "{Path(sys.executable)}" -m memcram "$@"\n')
    command.chmod(0o755)
    found = subprocess.run(
        ["bash", "-c", SOURCED, "bash", script, command], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["tarasov2026", "tarasov2026+low-dim"], found.stderr


def test_an_unknown_shell_is_refused(capsys):
    assert run(["completion", "tcsh"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in err
