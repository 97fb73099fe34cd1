"""From stores on disk to a report and to the page of one text."""

import shutil

import pytest

import plausible
from memcram.errors import UsageError
from memcram.recipes.catalogue import RECIPES
from memcram.report import stores
from plausible_store import make_store


@pytest.fixture(scope="module")
def rows_and_records():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    chosen = rows["length"].isin([16, 64]) & (rows["source"] == "random")
    return rows[chosen].reset_index(drop=True).assign(bos_in_text=False), records


def test_an_unfinished_store(tmp_path, rows_and_records):
    rows, records = rows_and_records
    data = stores.load_stores([make_store(tmp_path, "dev", rows, records, pending=3)])
    assert sorted(data.rows["task"]) == sorted(rows["task"])
    [part] = data.unfinished
    assert (part.name, part.planned, part.failed) == ("dev", len(rows) + 3, 0)
    settings = part.settings["runs"][0]["settings"]
    assert set(settings) == {"threads", "recipes"}
    assert settings["recipes"]["default"]["optimiser"]["kind"] == "AveragedAdamW"
    task = rows["task"][0]
    assert data.tokens(task).ids.tolist() == records[task].ids.tolist()


def test_another_budget_is_kept_apart(tmp_path, rows_and_records):
    rows, records = rows_and_records
    one = make_store(tmp_path, "one", rows.iloc[:2], records)
    two = make_store(tmp_path, "two", rows.iloc[2:], records, steps=30)
    same = make_store(tmp_path, "same", rows.iloc[2:], records)
    labels = set(stores.load_stores([one, two]).rows["label"])
    assert labels == {"pocket · default [one]", "pocket · default [two]"}
    assert set(stores.load_stores([one, same]).rows["label"]) == {"pocket"}


def test_a_name_whose_settings_changed_is_told_apart(tmp_path, rows_and_records, monkeypatch):
    """What a name meant when the rows were measured counts, not what it means today."""
    rows, records = rows_and_records
    was = make_store(tmp_path, "was", rows.iloc[:1], records, group_size=7)
    now = make_store(tmp_path, "now", rows.iloc[1:2], records)
    old = make_store(tmp_path, "old", rows.iloc[2:3], records, recorded=False)
    labels = [f"pocket · default [{name}]" for name in ("was", "now", "old")]
    assert list(stores.load_stores([was, now, old]).rows["label"]) == labels
    others = {name: recipe for name, recipe in RECIPES.items() if name != "default"}
    monkeypatch.setattr("memcram.recipes.catalogue.RECIPES", others)
    found = stores.load_stores([was, now, old])
    assert list(found.rows["label"]) == labels
    told = [part.settings["runs"][0]["settings"]["recipes"] for part in found.studies]
    assert told[0]["default"]["group_size"] == 7
    assert told[2] == "not recorded"


def test_what_decides_no_row_tells_nothing_apart(tmp_path, rows_and_records):
    rows, records = rows_and_records
    one = make_store(tmp_path, "one", rows.iloc[:2], records)
    two = make_store(tmp_path, "two", rows.iloc[2:], records, source="said otherwise", horizon={})
    assert set(stores.load_stores([one, two]).rows["label"]) == {"pocket"}


def test_one_text_of_a_store(tmp_path, rows_and_records):
    rows, records = rows_and_records
    folder = make_store(tmp_path, "dev", rows, records)
    assert len(stores.view_of_text(folder, "random-001").pieces) == 64  # the longer of two rows
    assert len(stores.view_of_text(folder, rows["task"][0]).pieces) == 16
    for wrong in (None, "nobody"):
        with pytest.raises(UsageError, match=r"^text_id: got .*allowed: random-000, random-001$"):
            stores.view_of_text(folder, wrong)


def test_an_empty_store_is_an_error(tmp_path, rows_and_records):
    rows, records = rows_and_records
    folder = make_store(tmp_path, "dev", rows.iloc[:0], records)
    with pytest.raises(UsageError, match=r"^stores: no rows in 'dev'"):
        stores.load_stores([folder])


def test_tokens_of_an_unknown_model_are_told_by_id():
    pieces = stores.Pieces()
    assert pieces("pocket", "main", [3, 5]) == ["#3 ", "#5 "]  # a packaged model has no revisions
    assert "".join(pieces("pocket", None, [300, 301, 302])).strip()


def test_a_folder_that_is_gone_is_not_looked_for_on_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    assert stores.Pieces()("tiny", None, [3, 5]) == ["#3 ", "#5 "]
    asked = []
    monkeypatch.setattr("memcram.report.stores.load_tokenizer", lambda *a: asked.append(a) or str)
    stores.Pieces()("org/tiny", "0a1b", [3, 5])
    assert asked == [("org/tiny", "0a1b")]


def test_model_next_to_the_spec_is_found_from_anywhere(
    tmp_path, rows_and_records, tiny_folder, monkeypatch
):
    rows, records = rows_and_records
    shutil.copytree(tiny_folder, tmp_path / "tiny")
    folder = make_store(tmp_path, "dev", rows.assign(model="tiny", revision=None), records)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = stores.load_stores([folder])
    told = found.pieces(rows["task"][0], [5, 6, 7])
    assert told == stores.Pieces()(str(tiny_folder), None, [5, 6, 7])
    assert not told[0].startswith("#5")
