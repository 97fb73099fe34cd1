"""Decoding capacity, exact horizon, token gain, utilisation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcram import capacity_bound
from memcram.errors import UsageError
from memcram.metrics.published import published_results
from memcram.metrics.tokens import (
    Capacity,
    decoding_capacity_tokens,
    exact_capacity_tokens,
    mean_horizon,
    saturated,
    token_gain_tokens,
    utilisation,
)

ACCURACIES = st.dictionaries(
    st.integers(1, 4096),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    min_size=1,
    max_size=8,
)
HORIZONS = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=12)


def test_the_mean_decides_not_each_text():
    # Means: 1.0; (1.0 + 0.98) / 2 = 0.99; (1.0 + 0.97) / 2 = 0.985.
    accuracies = {8: [1.0, 1.0], 16: [1.0, 0.98], 32: [1.0, 0.97]}
    assert decoding_capacity_tokens(accuracies) == Capacity(16, 16, 32)
    assert decoding_capacity_tokens(accuracies, threshold=1.0) == Capacity(8, 8, 16)
    assert decoding_capacity_tokens(accuracies, threshold=0.985) == Capacity(32, 32, None)


def test_a_shorter_length_that_fails_does_not_lower_the_capacity():
    assert decoding_capacity_tokens({8: [1.0], 16: [0.9], 32: [1.0], 64: [0.5]}) == Capacity(
        tokens=32, unbroken_tokens=8, next_tokens=64
    )


def test_no_length_reaches_it():
    assert decoding_capacity_tokens({8: [0.5], 16: [0.4]}) == Capacity(None, None, 8)


@pytest.mark.parametrize("n", [3, 7, 11, 50])
def test_a_mean_of_values_at_the_threshold_reaches_it(n):
    assert decoding_capacity_tokens({8: [0.99] * n}).tokens == 8


@given(ACCURACIES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_threshold_never_gives_more(accuracies, one, other):
    low, high = (
        decoding_capacity_tokens(accuracies, threshold) for threshold in sorted((one, other))
    )
    assert (high.tokens or 0) <= (low.tokens or 0)
    assert (high.unbroken_tokens or 0) <= (low.unbroken_tokens or 0)
    assert (low.unbroken_tokens or 0) <= (low.tokens or 0)


@given(ACCURACIES, st.randoms())
def test_order_does_not_matter(accuracies, random):
    shuffled = [(length, random.sample(of, len(of))) for length, of in accuracies.items()]
    random.shuffle(shuffled)
    assert decoding_capacity_tokens(dict(shuffled)) == decoding_capacity_tokens(accuracies)


def test_exact_capacity_is_a_fraction_of_texts():
    # Shares: 1, 1/2, 1/4.
    exact = {8: [True] * 4, 16: [True, True, False, False], 32: [True, False, False, False]}
    assert exact_capacity_tokens(exact) == Capacity(16, 16, 32)
    assert exact_capacity_tokens(exact, fraction=0.75) == Capacity(8, 8, 16)


@pytest.mark.parametrize(
    ("accuracies", "threshold"), [({}, 0.99), ({8: []}, 0.99), ({8: [1.0]}, 0.0), ({8: [1.0]}, 99)]
)
def test_capacity_refuses(accuracies, threshold):
    with pytest.raises(UsageError, match="allowed"):
        decoding_capacity_tokens(accuracies, threshold)


@pytest.mark.parametrize(
    ("exact", "fraction", "argument"), [({}, 0.5, "exact"), ({8: [True]}, 2.0, "fraction")]
)
def test_exact_capacity_names_its_own_arguments(exact, fraction, argument):
    with pytest.raises(UsageError, match=f"^{argument}: got "):
        exact_capacity_tokens(exact, fraction)


def test_horizon_by_hand():
    # Horizons 2, 4 and, cut off at 3, at least 3. Tested: token 3 in three texts, missed in one;
    # token 4 in one text, as the censored one ended before it; token 5 in that one, missed.
    # P(≥ 1, 2, 3, 4, 5) = 1, 1, 2/3, 2/3, 0: sum 10/3.
    found = mean_horizon([2, 4, 3], [False, False, True])
    assert found.tokens == 3.0
    assert found.censored_share == pytest.approx(1 / 3)
    assert found.restricted_tokens == pytest.approx(10 / 3)
    assert found.limit_tokens == 5


def test_a_text_that_ends_before_a_token_was_not_at_risk_of_missing_it():
    # Of two texts that hold 4 tokens one ends there, the other misses the fifth: only the latter
    # was put to that test, so nobody is known to hold five.
    assert mean_horizon([4, 4], [True, False]).restricted_tokens == 4.0


@given(HORIZONS)
def test_without_censoring_the_restricted_mean_is_the_mean(horizons):
    found = mean_horizon([h for h, _ in horizons], [False] * len(horizons))
    assert found.restricted_tokens == pytest.approx(found.tokens)
    assert found.censored_share == 0.0


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(1, 40))
def test_where_all_texts_end_alike_nothing_is_added(horizons, end):
    found = mean_horizon([min(h, end) for h in horizons], [h >= end for h in horizons])
    assert found.restricted_tokens == pytest.approx(found.tokens)


@given(HORIZONS, st.randoms())
def test_it_is_at_least_the_mean_at_most_the_limit_and_knows_no_order(horizons, random):
    found = mean_horizon(*zip(*horizons, strict=True))
    assert found.tokens - 1e-9 <= found.restricted_tokens <= found.limit_tokens + 1e-9
    again = mean_horizon(*zip(*random.sample(horizons, len(horizons)), strict=True))
    assert again.restricted_tokens == pytest.approx(found.restricted_tokens)


def test_horizon_refuses():
    for horizons, censored in [([], []), ([1], [])]:
        with pytest.raises(UsageError, match="horizons"):
            mean_horizon(horizons, censored)


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_identical_gain_is_zero_and_the_sign_follows(mem, lm):
    assert token_gain_tokens(lm, lm) == 0
    assert token_gain_tokens(mem, lm) == -token_gain_tokens(lm, mem)


def test_saturated_is_strictly_above():
    assert not saturated(0.98)
    assert not saturated(0.99)
    assert saturated(0.991)


@given(st.integers(1, 64), st.integers(1, 4096), st.integers(2, 300_000))
def test_k_vectors_have_k_times_the_room(vectors, width, vocab):
    bound = capacity_bound(width, vocab)
    assert utilisation(vectors * bound, width, vocab, vectors) == pytest.approx(1.0)
    assert utilisation(0.0, width, vocab, vectors) == 0.0


GAINS = [row for row in published_results() if row.quantity == "token_gain"]


def test_published_gains_are_a_small_share_of_the_bound():
    # Kuratov et al., ACL 2025, figure 5: no model gets beyond a third of its bound; the largest is
    # Llama-3.1-8B on books, 1094.1 / 3862 = 0.283.
    shares = {(r.model, r.text): utilisation(r.mean, r.width, r.vocab, r.n_mem) for r in GAINS}
    assert len(shares) == 34
    assert all(0.05 < share < 1 / 3 for share in shares.values())
    assert max(shares, key=shares.get) == ("Llama-3.1-8B", "pg19")
    assert shares["Llama-3.1-8B", "pg19"] == pytest.approx(1094.1 / 3862, abs=1e-4)
