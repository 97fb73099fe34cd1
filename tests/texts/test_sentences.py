"""Where sentences begin: abbreviations, quotation marks, and text that has neither."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memcram.texts.books import collapse, second_half
from memcram.texts.sentences import sentence_starts


def sentences(text):
    return [text[a:b].strip() for a, b in pairwise(sentence_starts(text, "en"))]


@pytest.mark.parametrize(
    "expected",
    [
        ["Mr. Hale met Dr. Wood at 3.30 p.m. on Sunday.", "Nobody did!", "Why?"],
        ["“Stay,” he said.", "“Why?”", "She left."],
        ['"Stay here."', '"From the beginning?" he asked.', "She did.", '"No!"'],
        ["She told him so.", '"But I thought not," he said.', "It rained."],
        # Apostrophes open no quotation that hides what follows.
        ["Wipe your feet on 'em at the K.'s, will you.", "He did.", "She 'd gone.", "It rained."],
        ["‘Stay here.", "It rains.’", "‘So it does.’", "She left."],
        # A speech of two paragraphs opens two quotations and closes one.
        ["“It rained.", "“It rained again.”", "She left.", "He stayed."],
        ['"It rained all day.', '"It rained again."', "She left.", "He stayed."],
    ],
)
def test_sentences(expected):
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize("end", ["", "The boys' day.", 'A "day.', "A day”."])
def test_one_stray_mark_does_not_swallow_the_rest(end):
    for mark in "\"“”'‘’([":
        text = f"He saw {mark}em. " + "Then it rained all day. " * 300 + end
        assert len(sentences(text.strip())) > 250


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="aB. \"'“”‘’!?()[]\n1é文\x00", max_size=60).map(collapse))
def test_any_text_has_sentences_that_join_to_it(text):
    starts = sentence_starts(text, "en")
    assert (starts[0], starts[-1]) == (0, len(text))
    assert starts == sorted(set(starts))
    half = second_half("a", text, starts)
    assert f"{half.left} {half.text}".strip() == text
    assert text[half.offset :].startswith(half.text)
