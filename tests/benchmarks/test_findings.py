"""Every source that the findings cite exists, with the rows or keys that they name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
PAGES = ("findings.md", "findings-pocket.md")
TEXT = " ".join(" ".join((ROOT / "docs" / page).read_text("utf-8").split()) for page in PAGES)
NAMES = re.compile(r"`([^`]+)`")


def cited():
    """(file, key) of each key in [`file`: `key`, `key`], and (file, "") for the file itself."""
    found = []
    for citation in re.findall(r"\[(`[^\]\[]+(?:\[[^\]]*\][^\]\[]*)*)\](?!\()", TEXT):
        file = None
        for name in NAMES.findall(citation):
            if name.endswith((".json", ".csv", ".safetensors")):
                file = name
                found.append((file, ""))
            else:
                found.append((file, name))
    return found


@pytest.mark.parametrize(("file", "key"), sorted(set(cited()), key=str))
def test_what_is_cited_exists(file, key):
    assert file is not None, f"{key!r} is cited without a file"
    paths = sorted(RESULTS.glob(file.replace("NAME", "*"))) or [ROOT / file]
    for path in paths:
        assert path.is_file()
    assert any(key in path.read_text("utf-8", errors="replace") for path in paths)
