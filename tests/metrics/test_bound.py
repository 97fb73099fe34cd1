"""The published capacity bounds, from width and vocabulary."""

import pytest

from memcram import capacity_bound

# Kuratov et al., ACL 2025 (arXiv 2502.13063), poster: model, width, vocabulary, bound at 16 bits.
PUBLISHED = [
    ("Pythia-160M", 768, 50304, 787),
    ("Pythia-410M", 1024, 50304, 1049),
    ("Pythia-1.4B", 2048, 50304, 2098),
    ("Pythia-2.8B", 2560, 50304, 2623),
    ("OPT-1.3B", 2048, 50272, 2098),
    ("OLMo-1B", 2048, 50304, 2098),
    ("Sheared-LLaMA-1.3B", 2048, 32000, 2190),
    ("Llama-3.2-1B", 2048, 128256, 1931),
    ("Llama-3.2-3B", 3072, 128256, 2897),
    ("Llama-3.1-8B", 4096, 128256, 3862),
    ("Mamba-130M", 768, 50280, 787),
    ("Mamba-370M", 1024, 50280, 1049),
    ("Mamba-790M", 1536, 50280, 1574),
    ("Mamba-1.4B", 2048, 50280, 2098),
]


@pytest.mark.parametrize(("model", "width", "vocabulary", "tokens"), PUBLISHED)
def test_published_bound(model, width, vocabulary, tokens):
    assert round(capacity_bound(width, vocabulary, bits=16)) == tokens
    assert capacity_bound(width, vocabulary, bits=8) == capacity_bound(width, vocabulary) / 2


def test_that_many_tokens_have_that_many_bits():
    # 2 coordinates of 8 bits tell apart 2¹⁶ texts, which are two tokens of 2⁸.
    assert capacity_bound(2, 256, bits=8) == 2.0
