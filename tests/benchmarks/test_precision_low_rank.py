"""The benchmark of vectors e = W z with a W shared by the archive."""

import json

import torch
from click.testing import CliRunner

import precision_low_rank as low_rank

BOOK = "The lamp went out at nine, and nobody noticed until the ferry was late. " * 20


def test_a_map_keeps_the_size_of_coordinates():
    name = low_rank.random_map(64, 16, seed=3)
    z = torch.randn(1, 100, 16, generator=torch.Generator().manual_seed(0))
    projected = low_rank.Projected(name)
    mem = projected.mem({"z": z})
    assert mem.shape == (1, 100, 64)
    torch.testing.assert_close(mem.square().mean(), z.square().mean())
    torch.testing.assert_close(projected.at(mem[0], {})["z"], z[0], rtol=1e-3, atol=1e-4)
    assert low_rank.random_map(64, 16, seed=3) == name


def test_a_text_does_not_depend_on_others_in_the_batch():
    projected = low_rank.Projected(low_rank.random_map(64, 16, seed=0))
    z = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([projected.mem({"z": one[None]}) for one in z])
    assert torch.equal(projected.mem({"z": z}), alone)


def test_rows(tmp_path):
    book, result = tmp_path / "book.txt", tmp_path / "r.json"
    book.write_text(BOOK)
    texts = ["--text", str(book), "--train", str(book), "--texts", "2", "--tokens", "4"]
    sizes = ["--k", "16", "--trained-k", "16", "--precision", "int4", "--steps", "3"]
    ran = CliRunner().invoke(low_rank.main, ["pocket", *texts, *sizes, "-o", str(result)])
    assert ran.exit_code == 0, ran.output
    rows = json.loads(result.read_text())["rows"]
    assert [row["vectors"] for row in rows[::2]] == [
        "direct, recipe low-dim",
        "direct, recipe direct",
        "random W",
        "W of other texts",
    ]
    assert [row["bytes_per_vector"] for row in rows[-2:]] == [64, 12]
    assert rows[-1]["bytes_of_map"] == 4 * 256 * 16
    assert rows[-3]["bytes_of_map"] == 0
