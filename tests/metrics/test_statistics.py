"""Means with their spread, and shares with theirs."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcram.errors import UsageError
from memcram.metrics.statistics import rank_correlation, spread, wilson95

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)
few = settings(max_examples=40, deadline=None)


@few
@given(VALUES)
def test_the_interval_holds_the_mean_and_lies_between_the_extremes(values):
    found = spread(values)
    low, high = found.ci95
    assert min(values) - 1e-9 <= low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= high <= max(values) + 1e-9


@few
@given(VALUES, st.floats(0.1, 10), st.floats(-100, 100))
def test_it_scales_and_shifts_with_the_values(values, scale, shift):
    plain, moved = spread(values), spread([scale * value + shift for value in values])
    assert moved.mean == pytest.approx(scale * plain.mean + shift, abs=1e-8)
    assert moved.std == pytest.approx(scale * plain.std, abs=1e-8)
    for end, other in zip(moved.ci95, plain.ci95, strict=True):
        assert end == pytest.approx(scale * other + shift, abs=1e-8)


@few
@given(VALUES)
def test_labels_of_their_own_change_nothing(values):
    plain, labelled = spread(values), spread(values, passages=range(len(values)))
    assert labelled.ci95 == pytest.approx(plain.ci95, abs=1e-9)


def test_by_hand():
    # mean (1 + 2 + 6) / 3 = 3; squares 4 + 1 + 9 = 14, over n − 1 = 2: std √7. A resample mean
    # is 1 with probability 1/27 = 3.7 % and 6 with the same, so both 2.5 % ends are the extremes.
    found = spread([1.0, 2.0, 6.0])
    assert (found.n, found.mean, found.std) == (3, 3.0, pytest.approx(7**0.5))
    assert found.ci95 == (1.0, 6.0)


def test_prefixes_of_one_passage_count_as_one_draw():
    values, passages = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], list("aaaabbbb")
    # Two passages: both draws are the same one half of the time, so the ends are 0 and 1.
    assert spread(values, passages=passages).ci95 == (0.0, 1.0)
    low, high = spread(values).ci95
    assert 0.0 < low < high < 1.0


def test_one_passage_has_no_interval():
    assert spread([1.0, 2.0], passages=["a", "a"]).ci95 is None
    assert spread([1.0]).ci95 is None
    assert spread([1.0]).std is None


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match="values"):
        spread([])
    with pytest.raises(UsageError, match="passages: got 1"):
        spread([1.0, 2.0], passages=["a"])


def test_wilson_by_hand():
    # Share 1/2 of n = 4, z² = 3.8415: centre 0.5, half √(3.8415 · (1/16 + 3.8415/64)) / 1.9604
    # = √0.47068 / 1.9604 = 0.34996.
    assert wilson95(0.5, 4) == pytest.approx((0.15004, 0.84996), abs=1e-5)


@given(st.integers(1, 200), st.data())
def test_wilson_holds_the_share_and_narrows_with_n(n, data):
    share = data.draw(st.integers(0, n)) / n
    low, high = wilson95(share, n)
    assert 0.0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1.0
    closer = wilson95(share, 4 * n)
    assert closer[1] - closer[0] < high - low


def test_rank_correlation_by_hand():
    """ρ = 1 − 6 Σd² / (n³ − n) without ties; z = artanh ρ ± 1.96 · √((1 + ρ²/2) / (n − 3))."""
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2.0, 1.0, 40.0, 3.0, 50.0, 60.0]
    rho, ends = rank_correlation(x, y)  # d = 1, 1, 1, 1, 0, 0
    expected = 1 - 6 * 4 / (6**3 - 6)
    assert rho == pytest.approx(expected)
    half = 1.959964 * math.sqrt((1 + expected**2 / 2) / 3)
    assert ends == pytest.approx(
        (math.tanh(math.atanh(expected) - half), math.tanh(math.atanh(expected) + half))
    )


def test_ties_share_their_mean_rank():
    rho, _ = rank_correlation([1.0, 1.0, 2.0, 3.0], [1.5, 1.5, 3.0, 4.0])
    assert rho == pytest.approx(1)
    assert math.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0])[0])


def test_no_pairs_no_correlation():
    with pytest.raises(UsageError, match="x: got 1 values and 1 of y, allowed: two or more"):
        rank_correlation([1.0], [1.0])
