"""Gemma-3-270M, dequantised from GGUF: a vocabulary of 262,144, scaled embeddings, two ropes."""

import pytest
import torch

import memcram
from real.conftest import PASSAGE

pytestmark = pytest.mark.real


def test_the_model_is_the_one_described(gemma3):
    assert (gemma3.input_width, gemma3.vocab_size, gemma3.layers) == (640, 262_144, 18)
    assert gemma3.adds_bos


def test_it_reads_english(gemma3):
    [scored] = memcram.score(gemma3, [torch.tensor([gemma3.bos_id, *gemma3.tokenize(PASSAGE)])])
    assert scored.nats[1:].mean().item() < 4.0


def test_there_and_back(gemma3):
    text = "He sat on an upturned bucket with his back to the wind."
    archive = memcram.compress(text, gemma3, chunk_tokens=7)
    assert memcram.decompress(archive, gemma3) == text.encode()
    assert archive.summary()["tokens_corrected"] == 0
