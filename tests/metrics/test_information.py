"""Information gain, the line through (H_LM, H_LM+mem), bits per dimension and per byte."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memcram.errors import UsageError
from memcram.metrics.information import (
    bits_from_nats,
    bits_per_byte,
    bits_per_dimension,
    cross_entropy_line,
    cross_entropy_threshold_nats,
    information_gain_bits,
    information_gain_nats,
)
from memcram.metrics.published import published_results

NATS = st.floats(0, 1e4)
POINTS = st.lists(st.tuples(NATS, NATS), min_size=3, max_size=12)
few = settings(max_examples=40, deadline=None)


@given(NATS, NATS)
def test_gain(lm, mem):
    assert information_gain_nats(lm, lm) == 0.0
    assert information_gain_nats(lm, mem) == -information_gain_nats(mem, lm)
    assert information_gain_bits(lm, mem) == (lm - mem) / math.log(2)


def test_units_by_hand():
    # 3 bits are 3 · ln 2 = 2.0794 nats; over 2 vectors of 6 coordinates 3/12 bit each; over a text
    # of 24 bytes 1/8 bit a byte.
    nats = 2.0794415416798357
    assert bits_from_nats(nats) == pytest.approx(3.0)
    assert bits_per_dimension(nats, width=6, vectors=2) == pytest.approx(0.25)
    assert bits_per_byte(nats, 24) == pytest.approx(0.125)
    assert math.isnan(bits_per_byte(nats, 0))


@given(POINTS)
def test_the_threshold_is_the_mean_gain_and_no_other_line_of_slope_one_fits_better(points):
    lm, mem = np.array(points).T
    threshold = cross_entropy_threshold_nats(lm.tolist(), mem.tolist())
    gains = [information_gain_nats(x, y) for x, y in points]
    assert threshold == pytest.approx(math.fsum(gains) / len(gains), abs=1e-8)
    # Independent fit of y − x = a · 1 by the normal equations of numpy.
    intercept = np.linalg.lstsq(np.ones((len(lm), 1)), mem - lm, rcond=None)[0][0]
    assert threshold == pytest.approx(-intercept, abs=1e-8)


def test_line_by_hand():
    # x = 10, 20, 30 (mean 20), y = 1, 4, 13 (mean 6): Σ dx·dy = (−10)(−5) + 0 + 10 · 7 = 120,
    # Σ dx² = 200: slope 0.6, intercept 6 − 12 = −6. Gains 9, 16, 17: threshold 14.
    line = cross_entropy_line([10.0, 20.0, 30.0], [1.0, 4.0, 13.0])
    assert line.n == 3
    assert line.slope == pytest.approx(0.6)
    assert line.intercept_nats == pytest.approx(-6.0)
    assert line.threshold_nats == pytest.approx(14.0)
    # Of 27 resamples 3 have no slope; the pairs have 0.3, 0.6 and 0.9, 6 resamples each, and all
    # three points 0.6, also 6. Each end has a quarter of the weight.
    assert line.slope_ci95 == pytest.approx((0.3, 0.9))


@few
@given(st.lists(NATS, min_size=4, max_size=12, unique=True), st.floats(-2, 2), NATS)
def test_points_on_a_line_give_it_back(lm, slope, intercept):
    assume(np.std(lm) > 1e-2 * np.max(np.abs(lm)) and min(np.diff(sorted(lm))) > 1.0)
    line = cross_entropy_line(lm, [slope * x + intercept for x in lm])
    assert line.slope == pytest.approx(slope, abs=1e-6)
    assert line.intercept_nats == pytest.approx(intercept, abs=1e-2)
    assert line.slope_ci95 == pytest.approx((slope, slope), abs=1e-5)


@few
@given(POINTS, st.randoms())
def test_order_does_not_matter(points, random):
    lm, mem = zip(*points, strict=True)
    assume(np.std(lm) > 1.0)
    lm2, mem2 = zip(*random.sample(points, len(points)), strict=True)
    one, other = cross_entropy_line(lm, mem), cross_entropy_line(lm2, mem2)
    assert other.slope == pytest.approx(one.slope, abs=1e-8)
    assert other.threshold_nats == pytest.approx(one.threshold_nats, abs=1e-8)


def test_the_interval_tells_a_slope_of_one_from_another():
    rng = np.random.default_rng(0)
    lm = rng.uniform(100, 500, size=60)
    noise = rng.normal(0, 5, size=60)
    low, high = cross_entropy_line(lm.tolist(), (lm - 80 + noise).tolist()).slope_ci95
    assert low < 1.0 < high
    assert high - low < 0.05
    low, high = cross_entropy_line(lm.tolist(), (0.8 * lm + noise).tolist()).slope_ci95
    assert high < 0.9


def test_saturated_texts_flatten_the_line():
    # Vectors that take 100 nats: texts of less lie at zero.
    lm = [20.0, 50.0, 80.0, 150.0, 250.0, 350.0]
    mem = [max(0.0, x - 100) for x in lm]
    assert cross_entropy_line(lm[3:], mem[3:]).slope == pytest.approx(1.0)
    assert cross_entropy_line(lm, mem).slope < 0.9
    assert cross_entropy_threshold_nats(lm[3:], mem[3:]) == pytest.approx(100.0)
    assert cross_entropy_threshold_nats(lm, mem) < 100.0


def test_few_points():
    alike = cross_entropy_line([5.0, 5.0, 5.0], [1.0, 2.0, 3.0])
    assert (alike.slope, alike.intercept_nats, alike.slope_ci95) == (None, None, None)
    assert alike.threshold_nats == 3.0
    two = cross_entropy_line([1.0, 3.0], [0.0, 1.0])
    assert (two.slope, two.slope_ci95) == (0.5, None)
    same_passage = cross_entropy_line([1.0, 2.0, 4.0], [0.0, 1.0, 2.0], passages=["a", "a", "b"])
    assert same_passage.slope_ci95 is None
    for lm, mem in [([], []), ([1.0], [])]:
        with pytest.raises(UsageError, match="lm_nats"):
            cross_entropy_line(lm, mem)


def test_published_gains_are_about_a_bit_a_coordinate():
    # From the printed nats: between 0.4 (Pythia-2.8B, 740.3 / ln 2 / 2560 = 0.417) and 2 bits a
    # coordinate, of the 16 that it is stored in.
    found = {
        (row.model, row.text): bits_per_dimension(row.mean, row.width, row.n_mem)
        for row in published_results()
        if row.quantity == "information_gain"
    }
    assert len(found) == 34
    assert all(0.4 < bits < 2.0 for bits in found.values())
    assert found["Pythia-2.8B", "pg19"] == pytest.approx(0.4172, abs=1e-4)
