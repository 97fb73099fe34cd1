"""A subsampled series is bounded and evenly spread, whatever its length."""

import pytest

from memcram.engine.subsampled import Subsampled

LENGTHS = [0, 1, 7, 8, 9, 15, 16, 17, 100, 1000]


def subsampled(length, limit=8):
    series = Subsampled(limit)
    for number in range(length):
        if series.wants(number):
            series.keep(number, f"entry {number}")
    return series


@pytest.mark.parametrize("length", LENGTHS)
def test_exactly_the_multiples_of_the_stride_are_kept(length):
    series = subsampled(length)
    assert list(series.kept) == list(range(0, length, series.stride))
    assert all(entry == f"entry {number}" for number, entry in series.kept.items())


@pytest.mark.parametrize("length", LENGTHS)
def test_fewer_than_the_limit_and_at_least_half_of_it(length):
    assert min(length, 4) <= len(subsampled(length).kept) < 8


@pytest.mark.parametrize("length", LENGTHS)
def test_same_as_dropping_every_other_entry_of_a_full_list(length):
    kept, stride = [], 1
    for number in range(length):
        if number % stride == 0:
            kept.append(number)
        if len(kept) == 8:
            kept, stride = kept[::2], 2 * stride
    assert list(subsampled(length).kept) == kept


def test_an_entry_with_a_known_number_replaces_the_old_one():
    series = subsampled(4)
    series.keep(3, "again")
    assert series.kept == {0: "entry 0", 1: "entry 1", 2: "entry 2", 3: "again"}
