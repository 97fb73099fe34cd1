"""Where growth ends: what is asked of a fresh vector, and how it is summed up."""

import json

import pytest
from click.testing import CliRunner

import walls


def test_asked_for_less_a_fresh_vector_reaches_more(pocket, prose):
    texts = [prose[:30], prose[10:22]]
    alone = walls.reach(pocket, texts, [1, 1], 60)
    together = walls.reach(pocket, texts, [30, 12], 60)
    assert all(one > 0.5 for one in alone)
    assert all(some < one for some, one in zip(together, alone, strict=True))


def test_surprise_is_that_of_the_last_token(pocket, prose):
    nats, rank = walls.surprise(pocket, prose[:9])
    logits = pocket.module(prose[None, :8]).logits[0, -1]
    assert nats == pytest.approx(-float(logits.log_softmax(-1)[prose[8]]), abs=1e-4)
    assert rank == int((logits > logits[prose[8]]).sum())
    assert walls.surprise(pocket, prose[:1]) == (None, None)


def test_summary_by_hand():
    found = [
        walls.Wall("a", [5, 7], "x", 3.0, 4, {1: 0.5, 4: 0.1, 8: -0.2}),
        walls.Wall("b", [9, 9], "y", 5.0, 9, {1: 0.5, 4: -0.1, 5: -0.1, 10: -1.0}),
    ]
    summary = walls.summarise(found)
    assert summary["horizon_mean"] == 7.5
    assert summary["horizon_best_of_starts"] == 8.0
    assert summary["std_within_texts"] == pytest.approx(1.0)  # variances 2 and 0
    assert summary["std_between_texts"] == pytest.approx(3 / 2**0.5)
    shares = [summary[key] for key in ("alone", "last_four", "last_half", "all")]
    assert shares == [2, 1, 1, 0]


def test_command(tmp_path, tiny_folder, books):
    out = tmp_path / "found.json"
    words = [str(books), "--model", str(tiny_folder), "--samples", "2", "--starts", "2"]
    words += ["--max-tokens", "24", "--budget", "200", "--steps", "5", "-o", str(out)]
    done = CliRunner().invoke(walls.main, words)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text())
    assert report["summary"]["starts"] == 2
    for wall in report["walls"]:
        sizes = sorted(map(int, wall["margins"]))
        assert sizes[0] == 1
        assert sizes[-1] == max(wall["horizons"]) + 1
