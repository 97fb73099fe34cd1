"""The benchmark of storage precision, on two short texts."""

import json

import click
import pytest
import torch
from click.testing import CliRunner

import plausible
import precision
from memcram.study.results import ResultRow
from memcram.study.store import Store

BOOK = "The lamp went out at nine, and nobody noticed until the ferry was late. " * 20


def test_results_and_figure(tmp_path):
    book, result, drawn = (tmp_path / name for name in ("book.txt", "r.json", "f.png"))
    book.write_text(BOOK)
    names = ("float32", "int8", "int2")
    wanted = [word for name in names for word in ("--precision", name)]
    base = ["measure", "pocket", "--text", str(book), "--texts", "2", "--tokens", "8"]
    keep = ["--work", str(tmp_path / "kept.safetensors")]
    ran = CliRunner().invoke(
        precision.main, [*base, "--steps", "30", *wanted, *keep, "-o", str(result)]
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads(result.read_text())
    rows = report["precisions"]
    assert list(rows) == list(names)
    assert rows["int2"]["bound_tokens"] * 16 == rows["float32"]["bound_tokens"]
    assert rows["float32"]["texts_unchanged"] == 2
    assert rows["int8"]["mean_tokens"] > 0
    for row in rows.values():
        assert all(
            n <= most
            for n, most in zip(
                row["tokens_per_text"], rows["float32"]["tokens_per_text"], strict=True
            )
        )
    ran = CliRunner().invoke(precision.main, ["figure", str(result), "-o", str(drawn)])
    assert ran.exit_code == 0, ran.output
    assert drawn.stat().st_size > 1000


def test_storing_side_by_side_gives_the_same_vectors(tmp_path):
    book, result = tmp_path / "book.txt", tmp_path / "r.json"
    book.write_text(BOOK)
    base = ["side-by-side", "pocket", "--text", str(book), "--texts", "2", "--tokens", "3"]
    ran = CliRunner().invoke(
        precision.main, [*base, "--steps", "8", "--store", "int8", "-o", str(result)]
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads(result.read_text())
    assert report["precisions"] == ["int8", "int8"]
    assert len(report["ratios"]) == len(report["cpu_seconds"]["side by side"]) == 1


def test_vectors_of_a_study_are_read(tmp_path):
    rows, records = plausible.study(samples=1, vectors=(1, 2), models=("pocket",))
    rows = rows[rows["kind"] == "horizon"]
    folder = tmp_path / "a.study"
    store = Store.create(folder, "", tmp_path)
    kept = [ResultRow(**row) for row in rows.astype(object).to_dict("records")]
    store.adopt(kept)
    store.add([(row, records[row.task]) for row in kept], store.begin_run({}))
    store.close()
    ids, found = precision.from_study(folder, 2, vectors=2)
    first = rows[rows["vectors"] == 2].iloc[:2]
    assert len(found) == len(first) > 0
    assert [one.n_correct for one in found] == list(first["horizon"])
    for text, one, task in zip(ids, found, first["task"], strict=True):
        assert torch.equal(text, records[task].ids)
        assert torch.equal(one.mem, records[task].mem)
    with pytest.raises(click.BadParameter, match="no texts with 3 vectors"):
        precision.from_study(folder, 2, vectors=3)
