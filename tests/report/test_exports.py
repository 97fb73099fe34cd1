"""Reports of exported rows: the same numbers as from the stores they were written from."""

import json

import pandas as pd
import pytest

import plausible
from memcram.cli import run
from memcram.errors import UsageError
from memcram.report import page, stores
from memcram.study.runfile import run_file_bytes
from memcram.study.store import Store
from plausible_store import make_store


@pytest.fixture
def store(tmp_path):
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    rows = rows[(rows["kind"] == "horizon") & (rows["source"] == "books")]
    rows = rows.reset_index(drop=True).assign(bos_in_text=False)
    return make_store(tmp_path, "dev", rows, records, pending=1)


@pytest.fixture
def table(store, tmp_path):
    pytest.importorskip("pyarrow")
    prefix = tmp_path / "dev"
    assert run(["study", "export", str(store), "-o", str(prefix), "--run-file"]) == 0
    return prefix.with_suffix(".csv")


def test_a_report_of_an_export_has_the_tables_of_the_store(store, table):
    of_store, of_table = (stores.load_stores([place]) for place in (store, table))
    assert of_table.unfinished[0].planned == len(of_table.rows) + 1
    assert of_table.rows["budget_ended"].tolist() == of_store.rows["budget_ended"].tolist()
    assert None not in of_table.rows["budget_ended"].tolist()
    for row in of_store.rows.to_dict("records"):
        one, other = of_store.progress(row), of_table.progress(row)
        assert (one.estimated, other.estimated) == (True, True)
        assert other.points.tolist() == one.points.round().tolist()
    files, again = (
        {name: content for name, content in page.one_page_files(data) if name.endswith(".csv")}
        for data in (of_store, of_table)
    )
    assert {"tables/horizons.csv", "tables/horizon-means.csv"} <= set(files) == set(again)
    assert files["tables/horizon-means.csv"] == again["tables/horizon-means.csv"]


def test_one_page_contains_its_figures(table, tmp_path):
    assert run(["study", "report", str(table), "-o", str(tmp_path / "made"), "--one-page"]) == 0
    assert {one.name for one in (tmp_path / "made").iterdir()} == {"index.html", "tables"}
    text = (tmp_path / "made" / "index.html").read_text("utf-8")
    assert 'src="data:image/svg+xml;base64,' in text
    assert "figures/" not in text
    assert "tokens/" not in text
    assert len(pd.read_csv(tmp_path / "made" / "tables" / "horizon-growth.csv"))


def test_a_run_file_needs_different_names_of_studies(store, tmp_path, capsys):
    words = ["study", "export", str(store), str(store), "-o", str(tmp_path / "both"), "--run-file"]
    assert run(words) == 2
    line = "memcram: --run-file: 2 studies are called 'dev'; rename all but one in their specs"
    assert capsys.readouterr().err.strip() == line
    assert not list(tmp_path.glob("both*"))


def test_a_row_that_a_run_adds_meanwhile_does_no_harm(store, monkeypatch):
    opened = Store(store)
    *before, last = opened.rows()
    known = {task: run for task, run in opened.measured_by().items() if task != last.task}
    added = []

    def measured_by(self):
        added.append(last)
        return known

    monkeypatch.setattr(Store, "measured_by", measured_by)
    monkeypatch.setattr(Store, "rows", lambda self: [*before, *added])
    texts = json.loads(run_file_bytes([opened]))["texts"]
    assert set(texts) == {row.task for row in before}


def test_rows_without_a_run_file_make_a_report_of_unknown_settings(table):
    table.with_suffix(".run.json").unlink()
    data = stores.load_stores([table])
    unknown = data.rows["budget_ended"].isna()
    assert unknown.tolist() == (~data.rows["censored"]).tolist()
    assert not data.unfinished
    assert data.progress(data.rows.iloc[0].to_dict()) is None
    assert "horizon-growth" not in {one.key for one in page._Parts.of(data).sections}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "can't be read as a run file"),
        ("[" * 10**5, "can't be read as a run file"),
        ('{"version": Infinity}', "can't be read as a run file"),
        ('{"version": 1, "texts": {}}', "can't be read as a run file .studies: Field required"),
        ('{"version": 1, "studies": [], "texts": {"a": {}}}', r"texts\.a\.run: Field required"),
        (json.dumps({"version": 99}), "has version 99"),
    ],
)
def test_a_damaged_run_file_is_an_error_of_one_line(table, content, problem):
    table.with_suffix(".run.json").write_text(content)
    with pytest.raises(UsageError, match=problem):
        stores.load_stores([table])


def test_another_table_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UsageError, match="not written by `memcram study export`"):
        stores.load_stores([tmp_path / "a.csv"])
    with pytest.raises(UsageError, match="can't be read as rows"):
        stores.load_stores([tmp_path / "none.csv"])
