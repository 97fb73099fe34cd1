"""Book chunks: the paper's cut, checked against a straight implementation of its words."""

import random
import sys
from collections import Counter

import pytest

from memcram.errors import TextError, UsageError
from memcram.texts import make_source
from memcram.texts.books import collapse
from small_texts import CHUNK, book, tokenize


def chunks(path, samples, seed=0, **options):
    return make_source("books", path=path, **{**CHUNK, **options}).sample(
        tokenize, samples=samples, n_tokens=1, seed=seed
    )


def test_a_chunk_is_a_run_of_sentences_of_the_book_cut_in_the_middle(folder):
    for one in chunks(folder, 20):
        text = collapse(book(one.origin.removesuffix(".txt")))
        assert text[one.offset :].startswith(one.text)
        assert text[: one.offset].endswith(one.left + " ")
        assert CHUNK["min_words"] <= len(f"{one.left} {one.text}".split()) <= CHUNK["max_words"]
        # The small books have one full stop a sentence.
        left, right = one.left.count("."), one.text.count(".")
        assert right - left in (0, 1)
        assert left + right >= 10
        assert one.text.startswith("The ")
        assert one.text.endswith(".")


def test_chunks_are_distributed_as_the_papers_loop_draws_them(tmp_path):
    sentences = [f"The house has {'many ' * (i % 5)}rooms in year {i}." for i in range(16)]
    (tmp_path / "a.txt").write_text("\n".join(sentences))
    words = [len(one.split()) for one in sentences]
    least, most, runs = 90, 107, 1_000

    def loop(draw):
        """A run of ten sentences or more, drawn until it has the words."""
        while True:
            start = draw.randint(0, len(words) - 10)
            end = draw.randint(start + 10, len(words))
            if least <= sum(words[start:end]) <= most:
                half = sentences[start:end]
                return " ".join(half[: len(half) // 2]), " ".join(half[len(half) // 2 :])

    draw = random.Random(0)
    expected = Counter(loop(draw) for _ in range(runs))
    found: Counter = Counter()
    for seed in range(runs):
        (one,) = chunks(tmp_path, 1, seed, min_words=least, max_words=most)
        found[one.left, one.text] += 1
    assert found.keys() == expected.keys()
    assert len(found) > 10
    # Total variation of two draws of one distribution on c cells is near sqrt(c / (pi runs)).
    distance = sum(abs(found[cell] - expected[cell]) for cell in expected) / 2 / runs
    assert distance < 2 * (len(expected) / 3.14 / runs) ** 0.5


def test_a_book_with_too_few_words_is_left_out(folder):
    (folder / "short.txt").write_text(book("short", 12))
    assert {one.origin for one in chunks(folder, 12)} == {"one.txt", "two.txt", "three.txt"}


def test_no_book_long_enough(folder):
    told = "^0 texts of at least 1 tokens .* 2 are needed; a book gives chunks of 12000 to 25"
    with pytest.raises(TextError, match=told):
        chunks(folder, 2, min_words=12_000, max_words=25_000)


def test_a_book_with_room_for_few_chunks_is_used_up(tmp_path):
    (tmp_path / "a.txt").write_text(book("anna", 12))
    words = len(book("anna", 12).split())
    with pytest.raises(TextError, match=r"^[1-9] texts of at least 1 tokens .* 50 are needed"):
        chunks(tmp_path, 50, min_words=words // 2, max_words=words)


def test_the_defaults_are_the_papers():
    source = make_source("books", path="x")
    assert (source.min_words, source.max_words) == (12_000, 25_000)


def test_without_the_splitter(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(UsageError, match=r"^source: .* sentencex: pip install 'memcram\[study\]'$"):
        chunks(folder, 1)
