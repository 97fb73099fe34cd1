"""The buttons of the page, called directly."""

import json
import zipfile

import pytest

import memcram
from memcram.archive import Archive
from memcram.compression.chunks import ChunkProgress, CodecProgress
from memcram.ui import actions, gallery, handlers, jobs, panels, study
from memcram.ui.jobs import Jobs
from memcram.ui.models import Models

TEXT = "It was a <b>dark</b> night."
FEW = "default@lr=0.5"  # any variant: the buttons pass names on


@pytest.fixture
def pages(pocket, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "INTERVAL", 0.01)
    models = Models(["pocket"])
    monkeypatch.setattr(models, "load", lambda label, *_: {"pocket": pocket}[label])
    return handlers.Handlers(models, tmp_path, Jobs())


def test_cram(pages, pocket, tmp_path):
    before = []
    for last in pages.cram("a", TEXT, "pocket", 2, "default"):
        before.append(last)
        if last.archive:
            archive = Archive.read(last.archive)
            with zipfile.ZipFile(last.adapter) as adapter:
                names = adapter.namelist()
    assert [one.running for one in before] == [True] * (len(before) - 1) + [False]
    assert memcram.decompress(archive, pocket) == TEXT.encode()
    assert archive.tensors.chunk_vectors.tolist()[0] == 2
    assert any(name.endswith("adapter_model.safetensors") for name in names)
    assert "Exact: decoding" in last.html
    assert "&lt;b&gt;dark" in last.html
    assert "<b>" not in last.html
    assert list(tmp_path.iterdir()) == []  # downloads are copied when they are shown


def test_stop_keeps_what_is_held(pages, pocket):
    for last in pages.cram("a", "The rain fell on the old house. " * 20, "pocket", 1, "default"):
        if "tokens held exactly" in last.html and "<dd>0 <small>" not in last.html:
            pages.stop("a")
        if last.archive:
            archive = Archive.read(last.archive)
    assert f"Stopped: the archive has the first {archive.manifest.text.tokens} of" in last.html
    assert 0 < archive.manifest.text.bytes < 640


def test_closed_page_ends_its_work(pages):
    running = pages.cram("a", TEXT * 50, "pocket", 1, "default")
    next(running)
    pages.close("a")
    assert list(running)[-1] is None


def test_work_that_nobody_watched_for_long_says_so(pages, monkeypatch):
    monkeypatch.setattr(jobs, "_ABANDONED", 0.0)
    last = list(pages.cram("a", TEXT, "pocket", 1, "default"))[-1]
    assert "Cancelled" in last.html
    assert not last.running


def test_a_panel_shows_the_last_entry_that_was_chosen(pages):
    first, second = gallery.entries()[:2]
    before = pages.open_entry("a", first.name)
    next(before)
    after = pages.open_entry("a", second.name)
    next(after)
    assert list(before)[-1] is None
    assert second.source in list(after)[-1].html


def test_an_entry_does_not_end_what_is_crammed(pages):
    crammed = pages.cram("a", TEXT, "pocket", 1, "default")
    next(crammed)
    assert "Exact: decoding" in list(pages.open_entry("a", gallery.entries()[0].name))[-1].html
    assert "Exact: decoding" in list(crammed)[-1].html


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (("", "pocket", 1, "default"), "Text: the text is empty"),
        (("a" * 20_000, "pocket", 1, "default"), "Text: got 20,000 bytes, allowed: up to 16,384"),
        ((TEXT, "pocket", 99, "default"), "K: got 99, allowed: 1 to 16"),
        ((TEXT, "pocket", 1, "kuratov2025"), "first token"),
        ((TEXT, "pocket", 1, "<i>"), "Recipe: "),
    ],
)
def test_refused_inputs(pages, inputs, problem):
    last = list(pages.cram("a", *inputs))[-1]
    assert problem in last.html
    assert 'role="alert"' in last.html
    assert "<i>" not in last.html
    assert not last.running


def test_failure_nobody_expects_ends_the_run(pages, monkeypatch, caplog):
    monkeypatch.setattr(handlers, "cram_text", lambda *_: 1 / 0)
    last = list(pages.cram("a", TEXT, "pocket", 1, "default"))[-1]
    assert 'role="alert"' in last.html
    assert not last.running
    assert "ZeroDivisionError" in caplog.text


def test_gallery_entry_and_upload(pages, tmp_path):
    entry = gallery.entries()[0]
    last = list(pages.open_entry("a", entry.name))[-1]
    assert "Exact: decoding" in last.html
    upload = tmp_path / "x\u202e.mem.safetensors"
    upload.write_bytes(entry.archive)
    for last in pages.open_upload("a", str(upload)):
        if last.archive:
            assert last.archive.name == "x.mem.safetensors"
            assert last.archive.read_bytes() == entry.archive
    assert entry.text in last.html.replace("&#39;", "'")


@pytest.mark.parametrize("name", [".mem.safetensors", "..", "\u202e", "a (1)"])
def test_download_of_an_oddly_named_upload(pages, tmp_path, name):
    entry = gallery.entries()[0]
    folder = tmp_path / "files"
    archive = Archive.from_bytes(entry.archive)
    opened = actions.Opened(handlers._printable(name), archive, "", None, [], None, 0.0)
    folder.mkdir()
    path, adapter, problem = actions.write_files(opened, pages._models.load("pocket"), folder)
    assert problem == ""
    assert {path.parent, adapter.parent} == {folder}
    assert path.read_bytes() == entry.archive


def test_entry_of_a_model_that_is_not_offered(pages):
    [last] = list(pages.open_entry("a", "ferry"))[-1:]
    assert "needs the model &#39;SmolLM2-135M-Instruct.Q4_1.gguf&#39;" in last.html


def test_hostile_upload(pages, tmp_path):
    upload = tmp_path / "a.mem.safetensors"
    entry = gallery.entries()[0].archive
    end = 8 + int.from_bytes(entry[:8], "little")
    header = json.loads(entry[8:end])
    manifest = json.loads(header["__metadata__"]["memcram"])
    manifest["model"]["id"] = "<script>alert(1)</script>\n" * 3
    header["__metadata__"]["memcram"] = json.dumps(manifest)
    content = json.dumps(header).encode()
    upload.write_bytes(len(content).to_bytes(8, "little") + content + entry[end:])
    last = list(pages.open_upload("a", str(upload)))[-1]
    assert "<script>" not in last.html
    assert last.html.strip().count("\n") == 0
    assert 'role="alert"' in last.html
    assert "choose an archive" in list(pages.open_upload("a", None))[-1].html


def test_recipes_on_the_page_predict_the_first_token():
    assert "default" in actions.recipe_names()
    assert "kuratov2025" not in actions.recipe_names()


def test_exact_prefix_ends_at_the_first_gap():
    active = (ChunkProgress(2, 1, 0.5, -0.1), ChunkProgress(5, 2, 0.25, 0.2))
    progress = CodecProgress(1, 5, 8, ((0, 2),), active)
    state = actions.growing(list("abcdefgh"), progress, seconds=2.0)
    assert state.held == [True, True, True, False, False, True, True, False]
    assert (state.prefix, state.loss, state.min_margin) == (3, 0.5, -0.1)
    assert state.tokens_per_second == 2.5
    html = panels.live(state)
    assert '<span class="mc-held">abc</span><span class="mc-waiting">de</span>' in html


def test_first_difference_is_marked(pocket):
    archive = memcram.compress(TEXT, pocket, chunk_tokens=6, recipe=FEW, steps=2)
    job = jobs.Job(lambda job: actions.open_archive("a", archive, pocket, job))
    job.start()
    opened = job.result()
    first = opened.first_difference
    assert first is not None
    assert first == archive.tensors.correction_positions.tolist()[0]
    assert "".join(opened.decoded[:first]) == "".join(opened.view.pieces[:first])
    assert opened.text == TEXT
    html = panels.result(opened)
    assert f"first differs at token {first + 1}" in html
    assert html.count("<mark") == 1


def test_models_are_chosen_by_label(tiny_folder, tmp_path):
    models = Models(["pocket", str(tiny_folder), "pocket"])
    assert models.labels == ["pocket", tiny_folder.name]
    assert models.load(tiny_folder.name) is models.load(tiny_folder.name)
    with pytest.raises(memcram.UsageError, match="model: got '/etc', allowed: pocket"):
        models.load("/etc")
    with pytest.raises(memcram.ModelError):
        Models([str(tmp_path / "nothing")])


def test_without_a_study_the_tab_says_so(tmp_path):
    [html] = study.StudyReport([], tmp_path / "study").show()
    assert "No study was named" in html
    with pytest.raises(memcram.UsageError):
        study.StudyReport([tmp_path / "nothing.study"], tmp_path / "study")
