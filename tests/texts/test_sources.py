"""The laws of every source of texts, and the table of sources by name."""

import re

import pytest

from memcram.errors import TextError, UsageError
from memcram.texts import SOURCES, make_source
from small_texts import CHUNK, sources, tokenize, write_books

KINDS = sorted(SOURCES)
SAMPLES = 8


@pytest.fixture
def source(request, folder, hub):
    return sources(folder)[request.param]


every_source = pytest.mark.parametrize("source", KINDS, indirect=True)


def draw(source, samples=SAMPLES, n_tokens=50, seed=0):
    return source.sample(tokenize, samples=samples, n_tokens=n_tokens, seed=seed)


def values(samples):
    return [(s.id, s.origin, s.offset, s.ids.tolist(), s.text, s.left) for s in samples]


def test_the_table_of_laws_has_every_source(folder):
    assert sorted(sources(folder)) == KINDS


@every_source
def test_the_same_arguments_give_the_same_samples_and_another_seed_others(source):
    assert values(draw(source)) == values(draw(source))
    assert [s.id for s in draw(source)] != [s.id for s in draw(source, seed=1)]


@every_source
@pytest.mark.parametrize("n_tokens", [1, 17, 100])
def test_a_sample_has_exactly_the_tokens_asked_for_the_first_of_its_text(source, n_tokens):
    for sample in draw(source, n_tokens=n_tokens):
        assert sample.ids.tolist() == tokenize(sample.text)[:n_tokens]
        assert len(sample.ids) == n_tokens


@every_source
def test_shorter_samples_are_prefixes_of_the_same_texts(source):
    longest = draw(source, n_tokens=100)
    for n_tokens in (1, 30, 99):
        shorter = draw(source, n_tokens=n_tokens)
        assert [s.id for s in shorter] == [s.id for s in longest]
        assert [s.ids.tolist() for s in shorter] == [s.ids.tolist()[:n_tokens] for s in longest]


@every_source
def test_fewer_samples_are_the_first_of_more(source):
    assert values(draw(source, samples=3)) == values(draw(source))[:3]


@every_source
def test_no_sample_comes_twice(source):
    drawn = draw(source)
    assert len({s.id for s in drawn}) == len({s.text for s in drawn}) == SAMPLES


@every_source
def test_samples_begin_at_a_word(source):
    for sample in draw(source):
        assert sample.text[0].strip()


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_depend_on_where_the_files_lie(kind, tmp_path, hub):
    here, there = (sources(write_books(tmp_path / name))[kind] for name in ("here", "far/there"))
    assert values(draw(here)) == values(draw(there))
    assert not any("/" in s.origin for s in draw(here) if not kind.startswith("hub"))


@every_source
def test_too_few_texts_long_enough(source):
    with pytest.raises(TextError) as caught:
        draw(source, n_tokens=100_000)
    assert re.fullmatch(
        r"0 texts of at least 100000 tokens were drawn, but 8 are needed; "
        r"the shortest, of '\S+', has \d+",
        str(caught.value),
    )


@every_source
@pytest.mark.parametrize("wrong", [{"samples": 0}, {"n_tokens": 0}])
def test_nothing_asked_for(source, wrong):
    with pytest.raises(UsageError, match=r"^(samples|n_tokens): got 0, allowed: 1 or more$"):
        draw(source, **wrong)


def test_how_many_were_long_enough(tmp_path):
    for name, words in (("a", 5), ("b", 40), ("c", 60)):
        (tmp_path / f"{name}.txt").write_text("word " * words)
    found = r"^2 texts of at least 15 tokens were drawn, but 3 are needed; .* 'a.txt', has \d+$"
    with pytest.raises(TextError, match=found):
        draw(make_source("files", path=tmp_path, passage_chars=1_000), samples=3, n_tokens=15)


def test_unknown_kind():
    with pytest.raises(UsageError, match=r"^source: got 'novels', allowed: files, books, fanfics,"):
        make_source("novels")


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_option(kind):
    with pytest.raises(UsageError, match=rf"^pth: unknown to the source '{kind}', allowed: \w+"):
        make_source(kind, pth="x")


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("books", {}, "path: got nothing for the source 'books'; Field required"),
        ("hub-chunks", {}, "dataset: got nothing for the source 'hub-chunks'; Field required"),
        ("files", {"path": 7}, "path: got 7 for the source 'files'; "),
        (
            "files",
            {"path": "x", "passage_chars": 0},
            "passage_chars: got 0 for the source 'files'; ",
        ),
        ("books", {"path": "x", "min_words": "12"}, "min_words: got '12' for the source 'books'; "),
        ("books", {"path": "x", "min_words": 9, "max_words": 8}, "max_words: got 8, allowed: min"),
        ("random-words", {"top": True}, "top: got True for the source 'random-words'; "),
        ("hub-chunks", {"dataset": "x", "shuffled": 3}, "shuffled: got 3 for the source 'hub-c"),
    ],
)
def test_wrong_option(kind, options, told):
    with pytest.raises(UsageError) as caught:
        make_source(kind, **options)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_options_as_toml_gives_them(folder):
    one = make_source("books", path=str(folder), **CHUNK)
    many = make_source(
        "books", path=[str(folder / f"{n}.txt") for n in ("one", "two", "three")], **CHUNK
    )
    assert values(draw(one)) == values(draw(many))


@pytest.mark.parametrize("kind", ["files", "books", "fanfics"])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "missing.txt", "can't be read (No such file or directory)"),
        (lambda folder: folder / "latin.txt", "is not UTF-8 (byte 1)"),
        (lambda folder: folder / "empty", "has no ."),
        (lambda folder: (folder, folder), "two files are named '"),
    ],
)
def test_unreadable(kind, make, told, folder):
    (folder / "empty").mkdir()
    (folder / "latin.txt").write_bytes(b"a\xe9b")
    with pytest.raises(TextError, match=r"^path: ") as caught:
        draw(make_source(kind, path=make(folder)))
    assert told in str(caught.value)
