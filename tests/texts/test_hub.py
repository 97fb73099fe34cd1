"""Data sets of the hub, through a stand-in for the package `datasets`."""

import sys

import pytest

from memcram.errors import TextError, UsageError
from memcram.texts import make_source
from memcram.texts.books import collapse
from small_texts import CHUNK, Rows, book, tokenize


def draw(kind, samples=2, **options):
    return make_source(kind, **options).sample(tokenize, samples=samples, n_tokens=5)


def test_pg19_comes_from_its_parquet_copy_one_split_alone(hub):
    draw("hub-books", **CHUNK)
    assert hub.calls == [
        {
            "path": "deepmind/pg19",
            "name": None,
            "data_files": {"validation": "default/validation/*.parquet"},
            "split": "validation",
            "revision": "refs/convert/parquet",
        }
    ]


def test_a_sample_of_a_data_set_is_known_by_its_row(hub):
    for one in draw("hub-books", samples=6, **CHUNK):
        row = int(one.origin.removeprefix("deepmind/pg19[").removesuffix("]"))
        assert one.text in collapse(book(f"pg{row}"))


def test_published_chunks_are_taken_in_their_order_and_halved(hub):
    drawn = draw("hub-chunks", samples=8, dataset="someone/chunks")
    assert [one.origin for one in drawn] == [f"someone/chunks[{i}]" for i in range(8)]
    for i, one in enumerate(drawn):
        assert f"{one.left} {one.text}" == collapse(book(f"chunk{i}", 40))
        assert (one.left.count("."), one.text.count(".")) == (20, 20)
    (call,) = hub.calls
    assert call == {
        "path": "someone/chunks",
        "name": "default",
        "data_files": None,
        "split": "train",
        "revision": None,
    }


def test_more_samples_than_rows(hub):
    told = "^8 texts of at least 5 tokens were drawn, but 9 are needed; the data set has 8 rows$"
    with pytest.raises(TextError, match=told):
        draw("hub-chunks", samples=9, dataset="someone/chunks")


def test_no_such_column(hub):
    with pytest.raises(
        UsageError, match=r"^column: got 'body', 'someone/chunks' has: title, text$"
    ):
        draw("hub-chunks", dataset="someone/chunks", column="body")


def test_another_column(hub):
    hub.sets["other"] = Rows("body", [book("anna", 40), book("berta", 40)])
    assert len(draw("hub-chunks", dataset="other", column="body")) == 2


def test_a_column_that_is_no_text(hub):
    hub.sets["other"] = Rows("text", [None])
    with pytest.raises(TextError, match=r"^column: 'text' holds no text in row 0 \(NoneType\)$"):
        draw("hub-chunks", dataset="other")


def test_a_data_set_that_is_not_there(hub):
    told = r"^dataset: 'nowhere', split 'train', can't be loaded: Dataset 'nowhere' doesn't exist$"
    with pytest.raises(TextError, match=told):
        draw("hub-chunks", dataset="nowhere")


def test_a_local_folder_goes_by_its_name(hub, tmp_path):
    hub.sets[str(tmp_path)] = hub.sets["someone/chunks"]
    assert draw("hub-chunks", dataset=str(tmp_path))[0].origin == f"{tmp_path.name}[0]"


@pytest.mark.parametrize("kind", ["hub-books", "hub-chunks"])
def test_without_the_extra(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"^source: .* pip install 'memcram\[datasets\]'$"):
        draw(kind, dataset="x")
