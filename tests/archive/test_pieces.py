"""Any text comes back byte for byte, whatever its tokenizer does to it."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tiny
from memcram.archive.pieces import LeadingText, RawPiece, detokenize, tokenize


class Plain:
    """A `tokenizers` tokenizer with the face of a model."""

    def __init__(self, tokenizer):
        self.inner = tokenizer

    def tokenize(self, text):
        return self.inner.encode(text, add_special_tokens=False).ids

    def detokenize(self, ids):
        return self.inner.decode(list(ids), skip_special_tokens=False)


TOKENIZERS = {
    "bytes": Plain(tiny.byte_tokenizer()),
    "lower_and_strip": Plain(tiny.byte_tokenizer(lower_and_strip=True)),
    "prepend_space": Plain(tiny.byte_tokenizer(prepend_space=True)),
}


@pytest.fixture(params=["pocket", *TOKENIZERS])
def tokenizer(request):
    if request.param == "pocket":
        return request.getfixturevalue("pocket")
    return TOKENIZERS[request.param]


def restored(found, tokenizer):
    return detokenize(found.ids, found.piece_tokens, found.raw, tokenizer)


@given(
    text=st.one_of(
        st.text(min_size=1, max_size=60),
        # Longer than a piece, with white space at every edge and case everywhere.
        st.text("aB \n\tİßé語", min_size=400, max_size=1200),
    )
)
@example(" ")
@example("\n\n")
@example("<|bos|> and <s>")
@example("İSTANBUL ǅ ﬁ Ω\u0307")
@example("a\r\nb\x00c\ufeff\ufffd")
@example("e\u0301 \u200d 👩‍👩‍👧")
@example(" A" * 700)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_comes_back(tokenizer, text):
    found = tokenize(text, tokenizer)
    assert restored(found, tokenizer) == text.encode()
    assert sum(found.piece_tokens) == len(found.ids)
    assert all(count > 0 for count in found.piece_tokens)
    ends = [piece.offset + piece.removed for piece in found.raw]
    assert all(end <= piece.offset for end, piece in zip(ends, found.raw[1:], strict=False)), (
        "raw pieces overlap"
    )


TEXT = "The Ferry was late. Nobody noticed, and Nobody cared. " * 60


def test_a_faithful_tokenizer_needs_no_raw_piece(pocket):
    for tokenizer in (pocket, TOKENIZERS["bytes"]):
        found = tokenize(TEXT, tokenizer)
        assert found.raw == []
        assert found.piece_tokens == [len(found.ids)]


def test_a_prepended_space_costs_one_raw_piece():
    found = tokenize(TEXT, TOKENIZERS["prepend_space"])
    assert found.raw == [RawPiece(offset=0, removed=1, data=b"")]


def test_lower_case_costs_about_the_capitals():
    found = tokenize(TEXT, TOKENIZERS["lower_and_strip"])
    stored = sum(len(piece.data) for piece in found.raw)
    # 4 capitals in 54 characters, "The Ferry" as one stretch of 5, and the white space at the end
    assert stored < len(TEXT) / 5


@pytest.mark.parametrize(
    "raw",
    [
        [RawPiece(0, 99, b"")],
        [RawPiece(-1, 0, b"x")],
        [RawPiece(0, 2, b"x"), RawPiece(1, 1, b"y")],
        [RawPiece(2, 0, b"x"), RawPiece(0, 1, b"y")],
    ],
)
def test_raw_pieces_that_contradict_each_other(raw):
    tokenizer = TOKENIZERS["bytes"]
    ids = tokenizer.tokenize("abc")
    with pytest.raises(ValueError, match="overlap or lie outside"):
        detokenize(ids, [3], raw, tokenizer)


def in_parts(found, tokenizer, cuts):
    """What `LeadingText` returns after each part of the tokens."""
    leading = LeadingText(found.piece_tokens, found.raw, tokenizer)
    edges = sorted({0, *(cut % (len(found.ids) + 1) for cut in cuts), len(found.ids)})
    return [leading.add(found.ids[a:b]) for a, b in pairwise(edges)]


@given(
    text=st.one_of(
        st.text(min_size=1, max_size=60),
        st.text("aB \n\tİßé語👩", min_size=400, max_size=1200),
    ),
    cuts=st.lists(st.integers(0, 5000), max_size=12),
)
@example(" A" * 700, list(range(0, 1400, 7)))
@example("語👩\ufffd" * 300, list(range(0, 3000, 11)))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_text_in_parts_is_the_whole_text(tokenizer, text, cuts):
    found = tokenize(text, tokenizer)
    if found.ids:
        assert b"".join(in_parts(found, tokenizer, cuts)) == text.encode()


def test_only_the_last_character_is_held_back(tokenizer):
    text = "The ferry left at nine. İt was late: 語👩. " * 60
    found = tokenize(text, tokenizer)
    leading = LeadingText(found.piece_tokens, found.raw, tokenizer)
    given = b""
    for at in range(0, len(found.ids) - 10, 10):
        given += leading.add(found.ids[at : at + 10])
        # The text repeats itself, so that tokens are in proportion to bytes.
        assert len(given) > len(text.encode()) * (at + 10) / len(found.ids) - 60
    assert text.encode().startswith(given)
