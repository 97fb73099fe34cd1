"""The benchmark of archives in each precision, on a line of text."""

import json

from click.testing import CliRunner

import precision_archive
from memcram import Archive

TEXT = "The lamp went out at nine."


def test_every_archive_is_restored(tiny_folder, tmp_path):
    text, result = tmp_path / "text.txt", tmp_path / "r.json"
    text.write_text(TEXT)
    wanted = [word for name in ("float32", "int8", "int4") for word in ("--store", name)]
    settings = ["--chunk-tokens", "9", "--steps", "3"]
    ran = CliRunner().invoke(
        precision_archive.main,
        [str(text), "--model", str(tiny_folder), *settings, *wanted, "-o", str(result)],
    )
    assert ran.exit_code == 0, ran.output
    report = json.loads(result.read_text())
    assert report["bytes"] == len(TEXT)
    for name, row in report["stores"].items():
        archive = Archive.read(result.with_suffix("") / f"{name}.mem.safetensors")
        assert archive.summary()["bits_stored"] == 8 * row["bytes_of_vectors"]
        assert row["restored"]
        assert (row["chunks"], row["tokens"]) == (3, len(TEXT))
    sizes = [row["bytes_of_vectors"] for row in report["stores"].values()]
    assert sizes[0] > sizes[1]
