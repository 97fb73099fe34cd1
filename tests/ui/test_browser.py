"""The page in a headless Chromium: everything a visitor does, and what leaves the machine."""

import json
import shutil
import socket
import threading
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

import memcram
from memcram.archive import Archive
from memcram.ui import gallery, limits
from memcram.ui.jobs import Jobs
from memcram.ui.models import Models

pytestmark = [
    pytest.mark.slow,
    # Of libraries that the page uses, in threads of their own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SHORT = "It was a dark night."
LONG = "The rain fell on the old house by the river, and nobody came. " * 8
WAIT = 240_000  # milliseconds; machines that run tests are busy
STUDY = Path(__file__).parents[1] / "golden/stage/capacity.study"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a page, and its jobs."""
    pytest.importorskip("gradio", reason="needs the extra ui")
    import uvicorn

    from memcram.ui.server import application

    folder, jobs = tmp_path_factory.mktemp("ui"), Jobs()
    shutil.copytree(STUDY, folder / "capacity.study")
    app = application(Models(["pocket"], "cpu"), [folder / "capacity.study"], folder, jobs)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/", jobs
    jobs.cancel_all()
    running.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(server, chromium):
    """Open a page as a new visitor; all of its requests have to stay on this machine."""
    contexts, asked = [], []

    def open_page():
        context = chromium.new_context(accept_downloads=True)
        contexts.append(context)
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.goto(server[0])
        page.get_by_role("button", name="Cram", exact=True).wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))} == {
        "127.0.0.1"
    }


def cram(page, text, vectors="1"):
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_label("Vectors (K)").fill(vectors)
    page.get_by_role("button", name="Cram", exact=True).click()


def panel(page):
    """The open tab."""
    return page.get_by_role("tabpanel").filter(visible=True)


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def download(page, tmp_path):
    with page.expect_download() as started:
        panel(page).get_by_text("Download archive").click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    return path


def test_cram_download_upload_decode(visit, tmp_path, pocket):
    page = visit()
    cram(page, SHORT)
    panel(page).get_by_text("Exact: decoding").wait_for()
    tokens = panel(page).locator(".tokens")
    assert tokens.inner_text().replace("␣", " ").replace("\n", "") == SHORT
    path = download(page, tmp_path)
    assert path.name == "text.mem.safetensors"
    assert memcram.decompress(path, pocket).decode() == SHORT
    with page.expect_download() as adapter:
        panel(page).get_by_text("Download PEFT adapter").click()
    assert adapter.value.suggested_filename == "text-peft.zip"

    tab(page, "Open")
    panel(page).locator("input[type=file]").set_input_files(path)
    panel(page).get_by_text("Exact: decoding").wait_for()
    assert panel(page).locator(".mc-decoded").inner_text() == SHORT


def test_colours_change(visit):
    page = visit()
    tab(page, "Gallery")
    panel(page).get_by_role("button", name="Call me Ishmael").click()
    panel(page).get_by_text("Exact: decoding").wait_for()
    token = panel(page).locator(".tokens .t").nth(5)
    colour = "element => getComputedStyle(element).backgroundColor"
    by_margin = token.evaluate(colour)
    panel(page).get_by_label("surprisal under the bare model").check()
    assert token.evaluate(colour) != by_margin
    assert panel(page).get_by_label("Surprisal in nats").is_visible()
    assert not panel(page).get_by_label("Margin in logits").is_visible()


def test_stop_keeps_what_is_held(visit, tmp_path, pocket):
    page = visit()
    cram(page, LONG)
    page.wait_for_function("parseInt(document.querySelector('.mc-live dd')?.innerText) > 0")
    shown = panel(page).locator(".mc-live dt").all_inner_texts()
    assert shown[:4] == [
        "tokens held exactly",
        "loss",
        "smallest margin, logits",
        "tokens per second",
    ]
    page.get_by_role("button", name="Stop").click()
    panel(page).get_by_text("Stopped: the archive has the first").wait_for()
    data = memcram.decompress(download(page, tmp_path), pocket)
    assert 0 < len(data) < len(LONG)
    assert LONG.encode().startswith(data)
    assert page.get_by_role("button", name="Cram", exact=True).is_enabled()


def test_inputs_over_the_limit(visit, tmp_path):
    page = visit()
    cram(page, "a" * (limits.MAX_TEXT_BYTES + 1))
    error = panel(page).get_by_role("alert")
    error.wait_for()
    assert error.inner_text() == "Text: got 16,385 bytes, allowed: up to 16,384 bytes"
    cram(page, SHORT, vectors="99")
    panel(page).get_by_text("K: got 99, allowed: 1 to 16").wait_for()

    tab(page, "Open")
    files = panel(page).locator("input[type=file]")
    hostile = tmp_path / "a.mem.safetensors"
    hostile.write_bytes(b"\x08" + bytes(7) + b"{" * 99)
    files.set_input_files(hostile)
    panel(page).get_by_text("a.mem.safetensors: not a memcram archive").wait_for()


def test_upload_over_the_limit(visit, tmp_path):
    page = visit()
    large = tmp_path / "large.mem.safetensors"
    large.write_bytes(bytes(limits.MAX_UPLOAD_BYTES + 1))
    tab(page, "Open")
    panel(page).locator("input[type=file]").set_input_files(large)
    page.get_by_text("maximum allowed size of 4.0 Mb").wait_for()


def test_two_visitors_at_once(visit, server, tmp_path, pocket):
    texts = [SHORT, "She put the kettle on."]
    pages = [visit(), visit()]
    for page, text in zip(pages, texts, strict=True):
        cram(page, text)
    for page, text in zip(pages, texts, strict=True):
        panel(page).get_by_text("Exact: decoding").wait_for()
        assert panel(page).locator(".mc-decoded").inner_text() == text
        path = download(page, tmp_path)
        assert memcram.decompress(path, pocket).decode() == text
        alone = memcram.compress(text, pocket)
        assert Archive.read(path).tensors.sha256() == alone.tensors.sha256()


def test_files_of_the_machine_stay_there(server, tmp_path):
    """A program that speaks Gradio's protocol can't name a file that is not an upload."""
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    config = json.load(urlopen(f"{server[0]}config"))
    ids = [one["id"] for one in config["dependencies"] if one["targets"][0][1] == "upload"]
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    body = {"data": [file], "fn_index": ids[0], "session_hash": "a"}
    headers = {"content-type": "application/json"}
    for to in ("queue/join", "run/upload", "api/upload/"):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{server[0]}gradio_api/{to}", json.dumps(body).encode(), headers))
    for what in (secret, "https://192.0.2.1/"):
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{server[0]}gradio_api/file={what}")


def test_a_gallery_entry_that_is_still_opened_gives_way_to_the_next(visit, server):
    page = visit()
    tab(page, "Gallery")
    first, last = gallery.entries()[0], gallery.entries()[1]
    for entry in (first, last):
        panel(page).get_by_role("button", name=entry.title).click()
    panel(page).get_by_text("Exact: decoding").wait_for()
    panel(page).get_by_text(last.source).wait_for()
    while server[1].running():
        time.sleep(0.1)
    page.wait_for_timeout(1000)  # for what the first run might still send
    assert panel(page).locator(".mc-decoded").inner_text() == last.text.strip()


def test_closed_page_frees_the_work(visit, server):
    page = visit()
    cram(page, LONG)
    panel(page).locator(".mc-held").first.wait_for()
    assert server[1].running() == 1
    page.close()
    deadline = time.monotonic() + WAIT / 1000
    while server[1].running() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server[1].running() == 0


def test_gallery_names_the_model_that_is_missing(visit):
    page = visit()
    tab(page, "Gallery")
    assert panel(page).get_by_role("button").count() >= len(gallery.entries())
    panel(page).get_by_role("button", name="The ferry, SmolLM2").click()
    error = panel(page).get_by_role("alert")
    error.wait_for()
    assert "needs the model 'SmolLM2-135M-Instruct.Q4_1.gguf'" in error.inner_text()


def test_report_of_the_study(visit):
    page = visit()
    tab(page, "Study")
    frame = panel(page).frame_locator("iframe")
    frame.get_by_role("heading", level=1).wait_for()
    # Figures are loaded once they are near what is shown.
    frame.locator("figure").first.scroll_into_view_if_needed()
    frame.locator("figure img").first.wait_for()
    drawn = frame.locator("figure img").first
    assert drawn.evaluate("image => image.complete && image.naturalWidth > 0")
