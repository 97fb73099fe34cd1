"""A small study of a tiny model."""

import pytest

from memcram.study.read import read_spec
from memcram.study.runner import open_store, run_study

PROSE = (
    "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "
    "Marta counted the boats twice; there were eleven, and the twelfth was her brother's. "
    "She put the kettle on, took it off again, and walked down to the end of the pier. "
) * 4

SPEC = """\
name = "small"
models = ["{model}"]
vectors = [1, 2]
lengths = [4, 9]
samples = 3
steps = 8

[[texts]]
name = "mine"
source = "files"
path = "texts"
passage_chars = 60

[[texts]]
name = "words"
source = "random-words"
lengths_up_to = 12
vectors = [1]
words = 20
"""


def prepare(folder, model):
    """Write a spec, `small.toml`, and its texts."""
    (folder / "texts").mkdir()
    (folder / "texts" / "harbour.txt").write_text(PROSE)
    (folder / "small.toml").write_text(SPEC.format(model=model))
    return folder


def run_to_end(path, folder=None, **options):
    """Run a spec; returns its store."""
    spec = read_spec(path)
    store = open_store(folder or path.with_suffix(".study"), spec)
    with store.lock():
        run_study(spec, store, device="cpu", **options)
    return store


@pytest.fixture
def place(tmp_path, tiny_folder):
    """A folder with a spec, `small.toml`, and its texts."""
    return prepare(tmp_path, tiny_folder)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_folder):
    """The store of the small study after an uninterrupted run; read only."""
    return run_to_end(prepare(tmp_path_factory.mktemp("whole"), tiny_folder) / "small.toml")


@pytest.fixture
def write_spec(place):
    """Write the spec with changes: `write_spec(("samples = 3", "samples = 5"))`."""

    def write(*changes, name="small.toml", tail=""):
        text = (place / "small.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (place / name).write_text(text + tail)
        return place / name

    return write


@pytest.fixture
def measured():
    """Run a spec to its end (or `limit`): `store = measured(path)`."""
    return run_to_end
