"""The documentation site builds without warnings and loads nothing from elsewhere."""

import html
import re
import runpy
import subprocess
import sys

import pytest

from documents.pages import ROOT, all_commands


def test_diagrams_are_those_of_the_script():
    script = runpy.run_path(str(ROOT / "docs/tools/diagrams.py"))
    for name, draw in script["DIAGRAMS"].items():
        assert (ROOT / f"docs/figures/{name}.svg").read_text("utf-8") == draw().svg()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for needed in ("material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(needed, reason="needs the extra docs: `make docs`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in folder.rglob("*.html")
    }


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site):
    tags = re.compile(r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*>")
    loaded = [tag for page in site.values() for tag in tags.findall(page)]
    assert loaded
    assert not [tag for tag in loaded if re.search(r"(?:src|href|data)=[\"']?(?:https?:)?//", tag)]


@pytest.mark.slow
def test_pages_are_filled_in(site):
    page = html.unescape(site["commands.html"])
    for path in all_commands():
        assert f"Usage: memcram {' '.join(path)} " in page
    assert "<h2" in site["commands.html"]
    assert not [
        name for name, page in site.items() if "<!-- help:" in page or "<!-- README" in page
    ]
    assert "Parameters:" in site["api/index.html"]
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML"' in site["method.html"]
    assert not [name for name, page in site.items() if 'class="arithmatex"' in page]
