"""The packaged archives are those of the texts and models that the table names."""

import hashlib

import pytest

import memcram
from memcram.archive import Archive
from memcram.ui import gallery

ENTRIES = gallery.entries()


def test_nearly_all_need_no_other_model():
    assert sum(one.model == "pocket" for one in ENTRIES) == 9
    assert len(ENTRIES) == len({one.title for one in ENTRIES}) == 10


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda one: one.name)
def test_archive_is_of_its_text(entry):
    archive = Archive.from_bytes(entry.archive)
    assert archive.manifest.text.sha256 == hashlib.sha256(entry.text.encode()).hexdigest()
    assert archive.manifest.model.id == entry.model
    assert len(entry.archive) < 30_000


@pytest.mark.slow
@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.model == "pocket"], ids=str)
def test_archive_decodes(entry, pocket):
    archive = Archive.from_bytes(entry.archive)
    assert memcram.decompress(archive, pocket).decode() == entry.text
