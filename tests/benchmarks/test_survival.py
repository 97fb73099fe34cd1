"""The benchmark of survival, on three chunks."""

import json

import torch
from click.testing import CliRunner

import survival

BOOK = "The lamp went out at nine, and nobody noticed until the ferry was late. " * 20


def test_tokens_are_counted_by_their_margin():
    before = [torch.tensor([0.5, 0.05, 2e-6]), torch.tensor([0.005, 3.0])]
    after = [torch.tensor([0.5, 0.05, -1e-6]), torch.tensor([0.0, 3.0])]
    found = survival.compared(before, after, [2, 2])
    assert (found["tokens"], found["lost"], found["chunks_exact"]) == (5, 2, 1)
    assert abs(found["max_margin_lost"] - 0.005) < 1e-8
    assert abs(found["max_shift"] - 0.005) < 1e-8
    by_bin = {one["from"]: (one["n"], one["survived"]) for one in found["bins"]}
    assert by_bin == {
        0.0: (1, 0),
        1e-5: (0, 0),
        1e-4: (0, 0),
        1e-3: (1, 0),
        1e-2: (1, 1),
        0.1: (1, 1),
        1.0: (1, 1),
    }


def test_results(tmp_path):
    book, result = tmp_path / "book.txt", tmp_path / "r.json"
    book.write_text(BOOK)
    base = ["pocket", "--text", str(book), "--texts", "3", "--tokens", "6", "--steps", "5"]
    wanted = ["--precision", "float32", "--precision", "int4"]
    ran = CliRunner().invoke(survival.main, [*base, *wanted, "-o", str(result)])
    assert ran.exit_code == 0, ran.output
    rows = json.loads(result.read_text())["precisions"]
    assert list(rows) == ["float32", "int4"]
    for row in rows.values():
        for way, one in row["conditions"].items():
            assert one["tokens"] == sum(each["n"] for each in one["bins"]) == 18
            if "bfloat16" in way:
                assert one["max_shift"] > 1e-4
            else:
                assert one["max_shift"] < 1e-3
