"""Archives written by an earlier memcram: they open, verify, and give the same bytes back."""

import pytest

import memcram
from golden.frozen import ARCHIVES, STAGE, run

NAMES = list(ARCHIVES)
# Largest change (logits) of a margin on another machine that is no wonder, by dtype.
SHIFT = {"float32": 0.01, "bfloat16": 1.0}


def place(name):
    return STAGE / f"{name}.mem.safetensors"


def text(name):
    return (STAGE / ARCHIVES[name][0]).read_bytes()


def model_of(name):
    model = ARCHIVES[name][1]
    return model if model == "pocket" else str(STAGE / model)


@pytest.fixture(scope="module")
def load():
    loaded = {}

    def load(model, dtype):
        if (model, dtype) not in loaded:
            loaded[model, dtype] = memcram.load_lm(model, device="cpu", dtype=dtype)
        return loaded[model, dtype]

    return load


@pytest.mark.parametrize("name", NAMES)
def test_it_gives_the_text_back(name, load):
    archive = memcram.Archive.read(place(name))
    lm = load(model_of(name), archive.manifest.dtype)
    assert memcram.decompress(archive, lm) == text(name)


@pytest.mark.parametrize("name", NAMES)
def test_its_margins_are_those_that_were_stored(name, load):
    archive = memcram.Archive.read(place(name))
    dtype = archive.manifest.dtype
    found = memcram.verify(archive, load(model_of(name), dtype))
    summary = archive.summary()
    assert found.chunks_exact == summary["chunks_exact"]
    assert found.tokens_corrected == summary["tokens_corrected"]
    assert found.tokens_guarded == summary["tokens_guarded"]
    if summary["min_margin"] is not None:
        assert found.max_margin_shift < SHIFT[dtype]
        assert found.min_margin == pytest.approx(summary["min_margin"], abs=SHIFT[dtype])


@pytest.mark.parametrize("name", NAMES)
def test_read_and_written_it_is_the_same_file(name):
    data = place(name).read_bytes()
    assert memcram.Archive.from_bytes(data, name).to_bytes() == data


@pytest.mark.parametrize("name", NAMES)
def test_by_the_command_line(name, stage):
    file = f"{name}.mem.safetensors"
    options = ["--model", ARCHIVES[name][1], "--device", "cpu"]
    assert run("verify", file, *options).code == 0
    assert run("decompress", file, "-o", "-", *options).out == text(name)
    assert run("decompress", file, "-o", "again", *options, "-q").code == 0
    assert (stage / "again").read_bytes() == text(name)


def test_the_fixtures_are_of_every_sort():
    """Corrections, guards, raw pieces, K = 2, no token at all, bfloat16, packed vectors."""
    of = {name: memcram.Archive.read(place(name)) for name in NAMES}
    summaries = {name: archive.summary() for name, archive in of.items()}
    assert summaries["exact"]["tokens_corrected"] == summaries["exact"]["tokens_guarded"] == 0
    assert summaries["corrected"]["tokens_corrected"] > 0
    assert summaries["raw"]["tokens_guarded"] > 0
    assert summaries["raw"]["raw_bytes"] > 0
    assert summaries["pairs"]["vectors"] == 2 * summaries["pairs"]["chunks"]
    assert summaries["blank"]["tokens"] == 0
    assert of["half"].manifest.dtype == "bfloat16"
    assert summaries["half"]["tokens_guarded"] > 0
    assert of["packed"].manifest.version == 2
    assert 1 <= summaries["packed"]["bits_per_dimension"] <= 8
