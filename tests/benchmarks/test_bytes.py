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
    assert sizes["utf-8"] == 9 * len(TEXT)
    assert all(sizes[name] < 150 for name in ("gzip", "xz", "zstd"))


def test_mem_is_counted_with_corrections(module, tiny_lm):
    found = module.mem_bytes(tiny_lm, TEXT, "int4", chunk_tokens=40, steps=1)
    corrected = found["tokens_corrected"] + found["tokens_guarded"]
    assert corrected > 0
    # 32 coordinates of half a byte, a scale and the bits of each chunk; 12 bytes per correction
    assert found["bytes"] == found["vectors"] * (16 + 4) + found["chunks"] + 12 * corrected
