"""Which texts count as equally long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcram.errors import UsageError
from memcram.report.lengths import LengthGroups

EDGES = st.lists(st.integers(1, 2000), min_size=1, max_size=8, unique=True).map(sorted)


def test_lengths_are_those_asked_for_unless_a_source_is_named():
    groups = LengthGroups(realised=frozenset({"random"}))
    assert groups.of("books", 64, 63) == 64
    assert groups.of("random", 64, 63) == 63
    assert LengthGroups().of("random", 64, 63) == 64


@given(EDGES, st.integers(1, 3000))
def test_a_bin_is_named_by_what_all_its_texts_have(edges, tokens):
    group = LengthGroups(frozenset({"r"}), tuple(edges)).of("r", 0, tokens)
    assert group <= tokens
    assert group in [0, *edges]
    assert not [edge for edge in edges if group < edge <= tokens]


@pytest.mark.parametrize("edges", [(16, 8), (8, 8), (0, 8)])
def test_edges_must_ascend(edges):
    with pytest.raises(UsageError, match="edges"):
        LengthGroups(edges=edges)
