"""A thinned series is bounded and evenly spread, whatever its length."""

import pytest

from memcram.engine.subsampled import Thinned

LENGTHS = [0, 1, 7, 8, 9, 15, 16, 17, 100, 1000]


def thinned(length, most=8):
    series = Thinned(most)
    for number in range(length):
        if series.wants(number):
            series.keep(number, f"entry {number}")
    return series


@pytest.mark.parametrize("length", LENGTHS)
def test_every_multiple_of_the_stride_is_kept_and_nothing_else(length):
    series = thinned(length)
    assert list(series.kept) == list(range(0, length, series.stride))
    assert all(entry == f"entry {number}" for number, entry in series.kept.items())


@pytest.mark.parametrize("length", LENGTHS)
def test_fewer_than_most_and_half_of_them_at_least(length):
    assert min(length, 4) <= len(thinned(length).kept) < 8


@pytest.mark.parametrize("length", LENGTHS)
def test_as_a_list_of_which_every_other_entry_goes(length):
    kept, stride = [], 1
    for number in range(length):
        if number % stride == 0:
            kept.append(number)
        if len(kept) == 8:
            kept, stride = kept[::2], 2 * stride
    assert list(thinned(length).kept) == kept


def test_a_number_again_takes_the_place_of_the_first():
    series = thinned(4)
    series.keep(3, "again")
    assert series.kept == {0: "entry 0", 1: "entry 1", 2: "entry 2", 3: "again"}
