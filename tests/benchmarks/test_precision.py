"""The benchmark of storage precision, on two short texts."""

import json

from click.testing import CliRunner

import precision

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
