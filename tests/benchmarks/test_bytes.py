"""The range coder restores what it encodes, in about as many bits as the model promises."""

import importlib

import pytest
import torch

from memcram.models.scoring import score

pytest.importorskip("constriction", reason="the extra 'bytes' has it")
pytest.importorskip("zstandard", reason="the extra 'bytes' has it")

TEXT = b"The lamp went out at nine, and nobody noticed until the ferry was late."


@pytest.fixture(scope="module")
def module():
    return importlib.import_module("bytes")


def test_the_range_coder_is_lossless_and_as_short_as_the_model_says(module, pocket):
    ids = pocket.tokenize(TEXT.decode())
    words = module.encode(pocket, ids)
    assert module.decode(pocket, words, len(ids)) == ids
    [scored] = score(pocket, [torch.tensor(ids[1:])], [pocket.embed(torch.tensor(ids[:1]))])
    bits = scored.nats.sum().item() / 0.6931472 + torch.log2(torch.tensor(pocket.vocab_size))
    assert bits - 1 <= 32 * len(words) <= bits + 64


def test_usual_compressors_are_counted_with_their_headers(module):
    sizes = module.usual_bytes(TEXT * 9)
    assert sizes.pop("UTF-8") == 9 * len(TEXT)
    assert len(sizes) == 3
    assert all(size < 150 for size in sizes.values())


def test_mem_is_counted_with_corrections(module, tiny_lm):
    found = module.mem_bytes(tiny_lm, TEXT, ("float32", "int4"), chunk_tokens=40, steps=1)
    packed, plain = found["int4"], found["float32"]
    corrected = packed["tokens_corrected"] + packed["tokens_guarded"]
    assert corrected > 0
    # 32 coordinates of half a byte, a scale and the bits of each chunk; 12 bytes per correction
    assert packed["bytes"] == packed["vectors"] * (16 + 4) + packed["chunks"] + 12 * corrected
    corrected = plain["tokens_corrected"] + plain["tokens_guarded"]
    assert plain["bytes"] == plain["vectors"] * 128 + 12 * corrected


def test_the_summary_has_a_row_per_source_and_coder(module):
    def one(source, mem):
        archive = {"bits_per_dimension": mem / 10}
        sizes = {"UTF-8": 100, "[mem], int4": mem}
        return {"source": source, "bytes": sizes, "archives": {"int4": archive}}

    rows = module.summary_of([one("books", 40), one("books", 60), one("words", 80)])
    assert [(row["source"], row["coder"], row["n"]) for row in rows] == [
        ("books", "UTF-8", 2),
        ("books", "[mem], int4", 2),
        ("words", "UTF-8", 1),
        ("words", "[mem], int4", 1),
    ]
    assert (rows[1]["mean_bytes"], rows[1]["fraction_of_utf8"]) == (50, 0.5)
    assert rows[1]["low"] <= 0.5 <= rows[1]["high"]
    assert rows[1]["bits_per_dimension"] == 5
    assert rows[0]["bits_per_dimension"] is rows[3]["low"] is None
