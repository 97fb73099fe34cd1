"""Random words: the draw, the lists it draws from, and the recipe of the packaged one."""

from collections import Counter
from importlib.resources import files

import pytest
from click.testing import CliRunner

from memcram.errors import TextError
from memcram.texts import make_source
from memcram.texts.random_words import read_words
from small_texts import tokenize
from training.words import count


def draw(samples=3, n_tokens=10, seed=0, **options):
    return make_source("random-words", **options).sample(
        tokenize, samples=samples, n_tokens=n_tokens, seed=seed
    )


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_words_are_uniform_over_the_list_and_with_repetition(tmp_path):
    words = [f"w{i}" for i in range(20)]
    drawn = draw(samples=5, path=write(tmp_path / "list.txt", words), words=8_000)
    found = Counter(word for one in drawn for word in one.text.split(" "))
    assert set(found) == set(words)
    # 40,000 draws of 20 words: 2,000 each, with a deviation of 44; 5 of them are allowed.
    assert max(abs(n - 2_000) for n in found.values()) < 220


def test_origin_is_the_name_of_the_list(tmp_path):
    one, *_ = draw(path=write(tmp_path / "list.txt", "ab"))
    assert (one.origin, one.offset, one.left) == ("list.txt", 0, "")
    assert draw()[0].origin == "words.txt"


def test_top_takes_the_most_frequent(tmp_path):
    path = write(tmp_path / "list.txt", "abcdef")
    assert set("".join(one.text for one in draw(path=path, top=3))) == set("abc ")


def test_too_few_words_for_the_tokens():
    with pytest.raises(TextError, match=r"^0 texts of at least 50 tokens .* has 1"):
        draw(n_tokens=50, words=10)


def test_a_glove_file_gives_the_first_word_of_each_line(tmp_path):
    lines = [
        "the 0.418 0.24968 -0.41242",
        ", 0.013441 0.23682",
        "# 0.1 0.2",
        "caf\x85é\rx 1.0 -2.0",
    ]
    path = write(tmp_path / "glove.6B.50d.txt", lines)
    assert read_words(path) == ("the", ",", "#", "caf\x85é\rx")


def test_reading_stops_after_the_words_wanted(tmp_path):
    path = tmp_path / "glove.txt"
    # What follows is not even text; a GloVe file is too large to be read whole.
    path.write_bytes(b"the 0.1\nof 0.2\n" + b"x 0.5\n" * 100_000 + b"\xff")
    assert read_words(path, 2) == ("the", "of")


def test_comments_blank_lines_and_repeated_words_are_no_words(tmp_path):
    path = write(tmp_path / "list.txt", ["# made by hand", "# twice", "a", "", "b", "a", "#"])
    assert read_words(path) == ("a", "b", "#")


@pytest.mark.parametrize(
    ("content", "top", "told"),
    [
        (b"a\nb\n", 3, "has 2 words, but 3 are needed"),
        (b"# only a comment\n", None, "has 0 words, but 2 are needed"),
        (b"a\n", None, "has 1 words, but 2 are needed"),
        (b"\xff\n", None, "is not UTF-8"),
        (None, None, "can't be read (No such file or directory)"),
    ],
)
def test_lists_that_are_none(content, top, told, tmp_path):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TextError) as caught:
        draw(path=path, top=top)
    assert str(caught.value) == f"path: {str(path)!r} {told}"


def test_the_packaged_list():
    path = files("memcram").joinpath("data/words.txt")
    words = read_words(path)
    assert len(path.read_bytes()) < 250_000
    assert len(words) == 20_000
    assert words[:4] == ("the", "and", "of", "to")
    assert all(count.words_of(word) == [word] for word in words)
    assert "Limits" in path.read_text("utf-8").split("the\n")[0]


def test_counting_is_by_words_then_by_the_alphabet_and_leaves_rare_books_out():
    texts = ["The cat's 3 cats. The dog", "A dog — the ‘cat’s’ été", "été Zog zog zog the dog"]
    assert count.most_frequent(texts, 10, 2) == {"the": 4, "dog": 3, "cat's": 2, "été": 2}
    assert list(count.most_frequent(texts, 3, 1)) == ["the", "dog", "zog"]


def test_the_recipe_writes_what_the_source_reads(tmp_path):
    books = tmp_path / "books"
    books.mkdir()
    for name in "abc":
        write(books / f"{name}.txt", ["one two two", "three three three"])
    out = tmp_path / "words.txt"
    arguments = ["--texts", str(books), "--out", str(out), "--top", "3"]
    assert CliRunner().invoke(count.main, arguments).exit_code == 0
    assert read_words(out) == ("three", "two", "one")
    assert out.read_text().startswith("# The 3 most frequent words of 3 ")
    failed = CliRunner().invoke(count.main, [*arguments[:-1], "4"])
    assert failed.exit_code == 2
    assert "got 4, allowed: 1 to 3" in failed.output
