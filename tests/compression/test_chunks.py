"""Stretches cover the text, evenly."""

from hypothesis import given
from hypothesis import strategies as st

from memcram.compression.chunks import stretches, usual_chunk_tokens


@given(n=st.integers(0, 10_000), limit=st.integers(1, 500))
def test_stretches_join_are_bounded_and_even(n, limit):
    found = stretches(n, limit)
    assert [token for start, end in found for token in range(start, end)] == list(range(n))
    assert len(found) == -(-n // limit)  # no more than needed
    lengths = [end - start for start, end in found]
    if lengths:
        assert max(lengths) <= limit
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) >= 1


def test_the_usual_chunk_grows_with_k_and_width():
    one = usual_chunk_tokens(768, 50304, 1)
    assert one >= 4
    assert usual_chunk_tokens(768, 50304, 3) == 3 * one
    assert usual_chunk_tokens(1536, 50304, 1) > one
