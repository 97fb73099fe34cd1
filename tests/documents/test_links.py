"""Every relative link and anchor of the documents leads somewhere."""

import pytest

from documents.pages import NAMES, PAGES, ROOT, anchors, links


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name):
    for path, anchor in links(name):
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), path
        assert target.is_relative_to(ROOT), path
        if anchor:
            assert target in PAGES, path
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), f"{path}#{anchor}"


def test_links_and_anchors_are_found():
    assert ("docs/models.md", "") in links("README.md")
    assert ("#bits-per-dimension", "") not in links("docs/metrics.md")
    assert ("method.md", "bits-per-dimension") in links("docs/metrics.md")
    assert "capacity-bound-and-utilisation" in anchors("docs/method.md")
    assert "memcram-study-report-store-o-report" not in anchors("docs/reports.md")
    assert "memcram-study-report-store--o-report" in anchors("docs/reports.md")
