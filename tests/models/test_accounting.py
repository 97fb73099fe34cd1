"""Positions of tokens: input length, room and the exact prefix."""

import pytest
import torch

import memcram
from memcram import UsageError
from memcram.models.accounting import Accounting, exact_prefix, input_length, room


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("vectors", [1, 4])
def test_room_is_the_longest_text_that_fits(vectors, prefix):
    tokens = room(16, vectors, prefix)
    assert input_length(vectors, prefix, tokens) == 16
    assert Accounting(vectors, prefix, tokens).positions[-1] == 15
    assert room(None, vectors, prefix) is None


def test_first_token_is_predicted_by_the_last_position_before_the_text():
    assert list(Accounting(3, 1, 4).positions) == [3, 4, 5, 6]
    assert list(Accounting(3, 1, 4, first_token_given=True).positions) == [4, 5, 6]


@pytest.mark.parametrize(
    ("ids", "true_ids", "expected"),
    [([], [5], 0), ([5, 6], [5, 6, 7], 2), ([5, 9, 7], [5, 6, 7], 1), ([5, 6, 7], [5], 1)],
)
def test_exact_prefix(ids, true_ids, expected):
    assert exact_prefix(torch.tensor(ids), torch.tensor(true_ids)) == expected


def test_room_of_a_model_counts_the_bos(tiny_folder, tiny_lm):
    with_bos = memcram.load_lm(str(tiny_folder), device="cpu", layout="mem+bos")
    assert (tiny_lm.room(2), with_bos.room(2)) == (127, 126)
    assert with_bos.input_length(2, 126) == 128
    for vectors, allowed in ((128, "at most 127"), (0, "1 or more")):
        with pytest.raises(UsageError) as caught:
            with_bos.room(vectors)
        assert (caught.value.argument, caught.value.got) == ("vectors", vectors)
        assert caught.value.allowed.startswith(allowed)
