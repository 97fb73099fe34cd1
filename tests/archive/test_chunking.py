"""Chunks cover the text, evenly."""

from hypothesis import given
from hypothesis import strategies as st

from memcram.archive.chunking import chunk_lengths, default_chunk_tokens


@given(n=st.integers(0, 10_000), limit=st.integers(1, 500))
def test_lengths_sum_are_bounded_and_even(n, limit):
    lengths = chunk_lengths(n, limit)
    assert sum(lengths) == n
    assert len(lengths) == -(-n // limit)  # no more chunks than needed
    if lengths:
        assert max(lengths) <= limit
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= 1


def test_the_default_grows_with_k_and_width():
    one = default_chunk_tokens(768, 50304, 1)
    assert one >= 4
    assert default_chunk_tokens(768, 50304, 3) == 3 * one
    assert default_chunk_tokens(1536, 50304, 1) > one
