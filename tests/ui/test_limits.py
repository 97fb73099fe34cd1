"""Inputs over a limit are refused with the limit, hostile archives in one line."""

import pytest

from memcram.archive import Archive
from memcram.errors import ArchiveError, TextError, UsageError
from memcram.ui import gallery, limits, panels


@pytest.fixture(scope="module")
def good():
    return gallery.entries()[0].archive


def test_text_at_the_limit_is_taken():
    text = "é" * (limits.MAX_TEXT_BYTES // 2)
    assert limits.checked_text(text) == text
    with pytest.raises(TextError, match=r"got 16,385 bytes, allowed: up to 16,384 bytes"):
        limits.checked_text(text + "a")


@pytest.mark.parametrize("text", [None, "", "\ud800"])
def test_text_that_is_none(text):
    with pytest.raises(TextError, match=r"empty|UTF-8"):
        limits.checked_text(text)


@pytest.mark.parametrize("vectors", [0, -1, 17, 2.5, None, float("nan"), 1e300])
def test_vectors_out_of_range(vectors):
    with pytest.raises(UsageError, match="allowed: 1 to 16"):
        limits.checked_vectors(vectors)


def test_upload_over_the_limit(monkeypatch, good):
    assert isinstance(limits.read_upload(good, "a"), Archive)
    monkeypatch.setattr(limits, "MAX_UPLOAD_BYTES", len(good) - 1)
    with pytest.raises(ArchiveError, match=r"a: got [\d,]+ bytes, allowed: up to"):
        limits.read_upload(good, "a")


def test_archive_with_too_many_tokens(monkeypatch, good):
    monkeypatch.setattr(limits, "MAX_ARCHIVE_TOKENS", 3)
    with pytest.raises(ArchiveError, match=r"got \d+ tokens, allowed: up to 3"):
        limits.read_upload(good, "a")


@pytest.mark.parametrize(
    "make", [lambda x: b"", lambda x: b"\0" * 99, lambda x: x[:-9] + b"\1" * 9]
)
def test_hostile_upload_is_one_line(good, make):
    with pytest.raises(ArchiveError) as caught:
        limits.read_upload(make(good), "<b>\n.mem.safetensors")
    shown = panels.problem(caught.value)
    assert shown.strip().count("\n") == 0
    assert "<b>" not in shown
