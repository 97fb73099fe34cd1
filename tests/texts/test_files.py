"""Passages of files: where they begin, and when a file is exhausted."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from memcram.errors import TextError
from memcram.texts import make_source, sample_files
from memcram.texts.passages import files_in
from small_texts import tokenize


def places(path, samples, seed=0, **options):
    drawn = make_source("files", path=path, **options).sample(
        tokenize, samples=samples, n_tokens=1, seed=seed
    )
    return [one.offset for one in drawn]


def test_places_are_spread_over_the_file(tmp_path):
    text = "word " * 20_000
    (tmp_path / "a.txt").write_text(text)
    for samples in (5, 20, 100):
        found = sorted(places(tmp_path, samples, passage_chars=1_000))
        gaps = [b - a for a, b in pairwise(found)]
        # k multiples of the golden ratio leave gaps of at most (1 + 2 / sqrt 5) / k of a circle;
        # a word's length is lost to rounding.
        assert max(gaps) <= (1 + 2 / 5**0.5) / samples * len(text) + 5
        assert found[-1] <= len(text) - 1_000 + 5


@pytest.mark.parametrize("blank", [" ", "\n", "\r\n", "\t", "\u3000"])
def test_a_passage_is_of_the_file_and_begins_at_a_word(blank, tmp_path):
    text = blank.join(f"word{i}" for i in range(500))
    (tmp_path / "a.txt").write_bytes(text.encode())
    for one in make_source("files", path=tmp_path, passage_chars=100).sample(
        tokenize, samples=50, n_tokens=3
    ):
        assert text[one.offset : one.offset + 100] == one.text
        assert one.text.startswith("word")


def test_a_text_without_blanks_has_places_too(tmp_path):
    (tmp_path / "a.txt").write_text("文" * 3_000)
    assert len(set(places(tmp_path, 20))) == 20


def test_a_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("word".encode("utf-8-sig"))
    (one,) = make_source("files", path=tmp_path).sample(tokenize, samples=1, n_tokens=1)
    assert one.text == "word"


def test_files_take_turns_and_a_short_one_drops_out(tmp_path):
    (tmp_path / "short.txt").write_text("only three words")
    (tmp_path / "blank.txt").write_text(" \n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name} " * 1_000)
    drawn = make_source("files", path=tmp_path).sample(tokenize, samples=30, n_tokens=1)
    origins = [one.origin for one in drawn]
    assert 1 <= origins.count("short.txt") <= 3
    assert abs(origins.count("a.txt") - origins.count("b.txt")) <= 1
    assert set(origins[:3]) == {"a.txt", "b.txt", "short.txt"}


def test_exhausted_files_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("only three words")
    with pytest.raises(TextError, match=r"[123] texts .* 9 are needed; the files have no further"):
        places(tmp_path, 9)


def test_what_one_file_gives_does_not_depend_on_the_others(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 5_000)
    alone = places(tmp_path / "a.txt", 4)
    (tmp_path / "b.txt").write_text("word " * 5_000)
    drawn = make_source("files", path=tmp_path).sample(tokenize, samples=8, n_tokens=1)
    assert [one.offset for one in drawn if one.origin == "a.txt"] == alone


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("word " * 9)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(TextError, match="is not UTF-8; rename the file"):
        places(tmp_path, 1)


@pytest.mark.parametrize("words", [40, 200, 20_000])
def test_stretches_are_all_different_however_short_the_text(words):
    text = " ".join(f"word{i}" for i in range(words))
    drawn = sample_files({"a.txt": text}, tokenize, samples=16, max_tokens=100)
    assert len({one.offset for one in drawn}) == len({one.id for one in drawn}) == 16
    for one in drawn:
        assert one.offset == 0 or text[one.offset - 1] == " "
        assert one.ids.tolist() == tokenize(text[one.offset :])[:100]


def test_a_text_with_too_few_places_is_refused():
    with pytest.raises(
        TextError, match=r"^[1-5] texts .* 16 are needed; the files have no further"
    ):
        sample_files({"a.txt": "It was a dark night"}, tokenize, samples=16, max_tokens=100)


def test_memory_and_files_give_the_same_passages(tmp_path):
    (tmp_path / "a.txt").write_text("word " * 5_000)
    drawn = sample_files({"a.txt": "word " * 5_000}, tokenize, samples=9, max_tokens=50, seed=3)
    assert [one.offset for one in drawn] == places(tmp_path, 9, seed=3, passage_chars=600)


def test_names_that_are_not_utf8_are_refused_before_any_file_is_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.txt"))
    with pytest.raises(TextError, match=r"^texts: .* is not UTF-8; rename the file"):
        files_in(path, (".txt",), "texts")
