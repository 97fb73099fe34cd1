"""The command `ui`: what it refuses before a page is served."""

import sys

import pytest

from memcram.cli import run


@pytest.mark.parametrize("missing", ["gradio", "jinja2"])
def test_without_the_extra_the_error_names_it(missing, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    assert run(["ui"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("memcram: pages need ")
    assert error.endswith("pip install 'memcram[ui]'\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--model", "no/such/model"], "'no/such/model' is not a packaged model"),
        (["--host", "0.0.0.0"], "--host: got '0.0.0.0', allowed: 127.0.0.1, localhost, ::1"),
        (["--study", "missing.study"], "missing.study"),
    ],
)
def test_refused(arguments, problem, capsys, tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="needs the extra ui")
    monkeypatch.chdir(tmp_path)
    assert run(["ui", "--port", "0", *arguments]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_port_in_use(capsys):
    pytest.importorskip("gradio", reason="needs the extra ui")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        assert run(["ui", "--port", str(port)]) == 2
    assert f"--port: got {port}, which can't be used" in capsys.readouterr().err
