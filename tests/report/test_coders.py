"""Bytes of texts in a report: read from a file, checked, and shown."""

import json

import pytest

from memcram.errors import UsageError
from memcram.report import page
from memcram.report.coders import coder_table

ROW = {
    "source": "books",
    "coder": "[mem], int4",
    "n": 8,
    "mean_bytes": 1264.0,
    "fraction_of_utf8": 3.12,
    "low": 2.96,
    "high": 3.29,
    "bits_per_dimension": 4.0,
}


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(page, "sections", lambda *_: [])


def written(path, **changes):
    content = {"model": "pocket", "summary": [ROW | changes], "other": 1}
    path.write_text(json.dumps(content))
    return path


def test_the_table_is_on_the_page_and_next_to_it(tmp_path):
    plain = written(tmp_path / "a.json", coder="<UTF-8>", low=None, high=None)
    table = coder_table([plain, written(tmp_path / "b.json", source="words")])
    assert list(table["source"]) == ["books", "words"]
    page.write_report(None, tmp_path / "report", coders=table, one_page=True)
    text = (tmp_path / "report/index.html").read_text("utf-8")
    assert "pocket, books, n = 8" in text
    assert "pocket, words, n = 8" in text
    assert "&lt;UTF-8&gt;" in text
    assert "<td>1,264</td>" in text
    assert text.count("[2.96, 3.29]") == 1
    csv = (tmp_path / "report/tables/bytes.csv").read_text("utf-8").splitlines()
    assert csv[0].startswith("model,source,coder,n,mean_bytes")
    assert len(csv) == 3


def test_without_a_file_there_is_no_table(tmp_path):
    page.write_report(None, tmp_path / "report", one_page=True)
    assert "Bytes of texts" not in (tmp_path / "report/index.html").read_text("utf-8")
    assert not (tmp_path / "report/tables/bytes.csv").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "the file: Input should be"),
        ('{"model": "a", "summary": []}', "summary: List should have at least 1 item"),
        (json.dumps({"model": "a", "summary": [ROW | {"n": 0}]}), "summary.0.n: Input should be"),
        (json.dumps({"model": "a", "summary": [ROW | {"low": "x"}]}), "summary.0.low"),
        ('{"model": "a", "summary": [{"mean_bytes": NaN}]}', "summary.0"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, problem):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        coder_table([path])
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.argument == "coders"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        coder_table([tmp_path / "none.json"])
