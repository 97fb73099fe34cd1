"""The report as a folder: complete, self-contained, and never half-written."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

import plausible
from memcram.errors import UsageError
from memcram.report import data, html, page


@pytest.fixture(scope="module")
def measured():
    rows, records = plausible.study(samples=2, vectors=(1, 2), models=("pocket",))
    rows = rows[rows["length"].isin([16, 32, 128])].reset_index(drop=True)
    part = data.StudyPart("dev", rows, len(rows) + 7, 2, {"study.toml": "name = '<dev>'"})
    return data.combine([part], records.__getitem__, plausible.pieces)


@pytest.fixture(scope="module", autouse=True)
def quick_figures():
    """Figures are rendered in their own tests; that takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "to_svg", lambda *_: b"<svg/>")
        patch.setattr(page, "to_png", lambda *_: b"PNG")
        yield


@pytest.fixture(scope="module")
def report(measured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "report"
    page.write_report(measured, folder, max_texts=5)
    return folder


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.images, self.scopes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[name] for name in ("href", "src", "srcset") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        if tag == "th":
            self.scopes.append(found.get("scope"))


def test_every_link_is_a_file_of_the_report(report):
    pages = [report / "index.html", *(report / "tokens").iterdir()]
    assert len(pages) == 6
    for one in pages:
        found = Links(one.read_text("utf-8"))
        assert len(found.ids) == len(set(found.ids))
        for link in found.links:
            target, _, fragment = link.partition("#")
            assert (one.parent / target).is_file() if target else fragment in found.ids
    every = {str(file.relative_to(report)) for file in report.rglob("*") if file.is_file()}
    assert {"tables/table-1.csv", "figures/figure-1.svg", "figures/figure-1.png"} <= every
    for svg in (report / "figures").glob("*[!k].svg"):
        assert svg.with_suffix(".png").is_file()


def test_the_page_needs_no_network(report):
    text = (report / "index.html").read_text("utf-8")
    assert not re.search(r"https?:|@import|url\(", text)


def test_images_and_headers_have_words(report):
    found = Links((report / "index.html").read_text("utf-8"))
    assert found.images
    assert all(len(image["alt"]) > 20 for image in found.images)
    assert None not in found.scopes


def test_an_unfinished_study_says_so(report, measured):
    text = (report / "index.html").read_text("utf-8")
    n = len(measured.rows)
    assert f"Unfinished: dev has {n} of {n + 7} texts; 2 failed." in text
    assert "name = &#39;&lt;dev&gt;&#39;" in text


def test_texts_that_the_budget_ended_are_said_at_the_top():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    rows = rows[rows["kind"] == "horizon"].reset_index(drop=True).assign(censored=False)
    n = len(rows)
    settings = {"strategy": {"kind": "Horizon", "steps": 200}}
    for spent in (0, 3):
        steps = [250] * spent + [100] * (n - spent)
        recipes = dict.fromkeys(rows["task"], settings)
        part = data.StudyPart("dev", rows.assign(steps=steps), n, recipes=recipes)
        whole = data.combine([part], records.__getitem__, plausible.pieces)
        text = dict(page.report_files(whole, max_texts=0))["index.html"].decode()
        notice = re.search(r'<p class="notice">The budget ended (.*?) texts', text)
        assert (notice and notice[1]) == (f"{spent} of {n}" if spent else None)
        assert text.count(f">{spent} of ") + text.count(">0 of ") >= rows["source"].nunique()


def test_tables_are_the_numbers_of_the_page(report):
    table = pd.read_csv(report / "tables" / "table-1.csv")
    own = table[~table["published"]]
    assert set(own["source"]) == {"books", "fanfics", "random"}
    text = (report / "index.html").read_text("utf-8")
    assert html.figure_of(own["token_gain"].dropna().iloc[0]) in text


def test_published_values_alone_make_a_report(tmp_path):
    content = dict(page.report_files(data.published_only()))
    assert {"figures/figure-1.svg", "figures/figure-5-bound.svg"} <= set(content)
    text = content["index.html"].decode()
    assert "1,568" in text
    assert "1,438" in text  # the horizon of Llama-3.1-8B in tarasov2026
    assert "Unfinished" not in text


@pytest.mark.parametrize("kind", ["horizon", "depth"])
def test_a_study_without_capacities_makes_a_report(kind):
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    rows = rows[rows["kind"] == "horizon"].assign(kind=kind).reset_index(drop=True)
    rows["condition"] = "layers=6" if kind == "depth" else ""
    part = data.StudyPart("dev", rows, len(rows))
    made = data.combine([part], records.__getitem__, plausible.pieces)
    content = dict(page.report_files(made, max_texts=1))
    assert {"horizon": "tables/horizon-surprisal.csv", "depth": "tables/depth.csv"}[kind] in content
    names = {name for name in content if name.endswith(".svg")}
    assert any(kind in name for name in names)


def test_the_output_is_never_replaced_by_mistake(report, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "report_files", lambda *_: iter([("index.html", b"new")]))
    with pytest.raises(UsageError, match=r"^output: .*/report' exists; [^-]*$"):
        page.write_report(None, report)
    with pytest.raises(UsageError, match="does not exist"):
        page.write_report(None, tmp_path / "no" / "report")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"^output: .* holds files that are not part of a report"):
        page.write_report(None, mine, force=True)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "report"

    def files(*_):
        yield "index.html", b'<meta name="generator" content="memcram">first'

    monkeypatch.setattr(page, "report_files", files)
    page.write_report(None, folder)

    def fails(*_):
        yield "index.html", b"second"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "report_files", fails)
    with pytest.raises(UsageError, match="No space left"):
        page.write_report(None, folder, force=True)
    assert (folder / "index.html").read_bytes().endswith(b"first")
    assert [one.name for one in tmp_path.iterdir()] == ["report"]


def test_names_of_pages_are_safe():
    assert page._page_name("0f3a") == "0f3a.html"
    assert re.fullmatch(r"[0-9a-f]{64}\.html", page._page_name("../../etc/passwd"))


def sections_of(rows, records):
    made = data.ReportData(rows, records.__getitem__, plausible.pieces, ())
    return page.sections(made, page.table_1(rows), page.horizon_table(rows))


def test_sources_in_other_scripts_and_cases_keep_figures_of_their_own():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    rows = rows[rows["length"].isin([16, 32])]
    names = ("Книги", "Стихи", "книги")
    models = [rows.assign(model=f"runs/{name}", task=rows["task"] + name) for name in names]
    rows = pd.concat(models, ignore_index=True)
    records = {task + name: one for task, one in records.items() for name in names}
    part = data.StudyPart("dev", rows, len(rows))
    files = dict(page.report_files(data.combine([part], records.__getitem__, plausible.pieces)))
    labelled = data.with_label(rows)
    found = sections_of(labelled, records)
    figures = [drawn.name for section in found for drawn in section.figures]
    assert len(figures) == len(set(figures))
    assert sum(name.startswith("learning-curves") for name in figures) == 3
    assert {f"figures/{name}.svg" for name in figures} <= set(files)


def test_horizons_of_fewer_vectors_take_no_learning_curves_away():
    rows, records = plausible.study(samples=2, vectors=(1, 2), models=("pocket",))
    few = (rows["kind"] == "horizon") & (rows["vectors"] == 1)
    rows = rows[few | ((rows["kind"] == "capacity") & (rows["vectors"] == 2))]
    labelled = data.with_label(rows.reset_index(drop=True))
    found = sections_of(labelled, records)
    assert "learning-curves" in [section.key for section in found]
