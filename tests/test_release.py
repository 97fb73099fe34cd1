"""Version, changelog and citation agree; the citation satisfies the format that it states."""

import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path
from typing import Literal

import pytest
import yaml
from packaging.version import Version
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
# Newest first: version and date.
RELEASES = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", CHANGELOG, re.MULTILINE)
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


class Cff(BaseModel):
    """The part of the Citation File Format 1.2.0 that is used; any other key is an error.

    Source: https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema.json
    """

    model_config = ConfigDict(extra="forbid")


class Entity(Cff):
    name: str = Field(min_length=1)


class Person(Cff):
    family_names: str = Field(alias="family-names", min_length=1)
    given_names: str = Field(alias="given-names", min_length=1)


class Identifier(Cff):
    type: Literal["doi", "url", "swh", "other"]
    value: str = Field(min_length=1)
    description: str | None = None


class Reference(Cff):
    type: Literal["article", "conference-paper", "software"]
    title: str = Field(min_length=1)
    authors: list[Person | Entity] = Field(min_length=1)
    year: int
    conference: Entity | None = None
    identifiers: list[Identifier] = []
    url: HttpUrl | None = None


class Citation(Cff):
    cff_version: Literal["1.2.0"] = Field(alias="cff-version")
    message: str = Field(min_length=1)
    title: str = Field(min_length=1)
    authors: list[Person | Entity] = Field(min_length=1)
    type: Literal["software"]
    version: str
    license: Literal["Apache-2.0"]
    abstract: str
    keywords: list[str]
    references: list[Reference]
    date_released: date | None = Field(default=None, alias="date-released")


def test_citation_is_valid():
    Citation.model_validate(CITATION)


@pytest.mark.parametrize("key", ["cff-version", "message", "title", "authors"])
def test_a_citation_without_a_required_key_is_refused(key):
    with pytest.raises(ValidationError, match=key):
        Citation.model_validate({name: CITATION[name] for name in CITATION if name != key})


def test_citation_has_version_and_date_of_the_newest_release():
    if RELEASES:
        newest = RELEASES[0]
    else:
        (version,) = re.findall(r"^The first release will be (\S+)\.$", CHANGELOG, re.MULTILINE)
        newest = (version, None)
    released = CITATION.get("date-released")
    assert (CITATION["version"], released and released.isoformat()) == newest


def test_a_clone_without_tags_is_newer_than_every_release():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    fallback = Version(settings["tool"]["hatch"]["version"]["fallback-version"])
    assert fallback.is_devrelease
    assert all(fallback > Version(version) for version, _ in RELEASES)


def test_every_tag_is_in_the_changelog():
    listed = subprocess.run(
        ["git", "tag", "--list", "v*"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git clone")
    assert {tag.removeprefix("v") for tag in listed.stdout.split()} <= dict(RELEASES).keys()
