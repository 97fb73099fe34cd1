"""What is printed can't forge lines or move the cursor."""

import pytest

from memcram.cli import console
from memcram.cli.console import engine_progress, print_fields, print_table, progress_bar
from memcram.engine.loop import EngineStatus


@pytest.mark.parametrize("show", [print_fields, lambda f: print_table(["a"], [[f["recipe"]]])])
def test_text_from_outside_stays_on_its_line(show, capsys):
    show({"recipe": "x\nrestored   yes\x1b[31m\u2028\u202eü 小"})
    out, _ = capsys.readouterr()
    assert out.count("\n") == (2 if out.split()[0] == "a" else 1)
    assert not {"\x1b", "\u2028", "\u202e"} & set(out)
    assert r"x\nrestored   yes\x1b[31m\u2028\u202eü 小" in out


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the console sees; set `clock[0]`."""
    seconds = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: seconds[0])
    return seconds


def test_progress_without_a_terminal_is_a_line_per_minute(capsys, clock):
    with progress_bar("growing", unit="texts", quiet=False) as show:
        report = engine_progress(show, 16)
        for second in range(1, 200):
            clock[0] += 1
            report(EngineStatus(second // 60, 4, 16, 30 + second, 2 * second))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "growing: 1 of 16 texts, 4 in progress hold 90 tokens, 2 steps/s, 1 min",
        "growing: 2 of 16 texts, 4 in progress hold 150 tokens, 2 steps/s, 2 min",
        "growing: 3 of 16 texts, 4 in progress hold 210 tokens, 2 steps/s, 3 min",
    ]


def test_progress_takes_the_latest_label(capsys, clock):
    with progress_bar("study", quiet=False) as show:
        clock[0] += 61
        show(2, None, "", "pocket, K = 1")
    assert capsys.readouterr().err == "pocket, K = 1: 2, 1 min\n"


@pytest.mark.parametrize("closed", [True, False])
def test_quiet_or_without_a_stream_no_progress_is_printed(capsys, clock, monkeypatch, closed):
    if closed:
        monkeypatch.setattr(console.sys, "stderr", None)
    with progress_bar("growing", unit="texts", quiet=not closed) as show:
        clock[0] += 100
        show(1, 2)
    monkeypatch.undo()
    assert capsys.readouterr().err == ""
