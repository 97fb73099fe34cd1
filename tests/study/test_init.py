"""A study that starts from the vectors of an archive."""

import pytest
import torch

import memcram
from memcram import Engine, UsageError
from memcram.study.grid import expand
from memcram.study.read import read_spec

SHARED = ("steps = 8", 'steps = 8\nrecipes = ["tarasov2026+low-dim@in_group=true,group_size=2"]')
INIT = ("steps = 8", 'steps = 8\ninit = "draft.mem.safetensors"')


@pytest.fixture
def draft(place, tiny_lm):
    archive = memcram.compress("The lamp went out.", tiny_lm, vectors=2, chunk_tokens=9, steps=3)
    archive.write(place / "draft.mem.safetensors")
    return archive


def tasks(path, lm):
    return expand(read_spec(path), 0, lm)


def test_every_text_starts_from_the_first_chunk(draft, write_spec, measured, monkeypatch):
    seen = []
    new_slot = Engine._new_slot
    monkeypatch.setattr(
        Engine, "_new_slot", lambda engine, one: seen.append(one) or new_slot(engine, one)
    )
    rows = measured(write_spec(INIT)).rows()
    assert len(rows) == len(seen) == 15
    assert all(torch.equal(one.init, draft.mems[0][: one.vectors]) for one in seen)


def test_only_a_given_archive_changes_the_task(place, draft, write_spec, tiny_lm):
    plain = tasks(place / "small.toml", tiny_lm)
    first = tasks(write_spec(INIT, name="first.toml"), tiny_lm)
    other = memcram.compress("A boat.", tiny_lm, vectors=2, chunk_tokens=9, steps=3)
    other.write(place / "draft.mem.safetensors", force=True)
    second = tasks(place / "first.toml", tiny_lm)
    ids = [{task.id for task in each} for each in (plain, first, second)]
    assert all(len(one) == 15 for one in ids)
    assert not ids[0] & ids[1]
    assert not ids[1] & ids[2]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("draft", "x" * 300), "init: got 'xxx"),
        (("draft.mem", "none.mem"), "init: got 'none.mem.safetensors', allowed: an archive"),
        (("vectors = [1, 2]", "vectors = [3]"), "init: got an archive with 2 vectors per chunk"),
        (("steps = 8", 'steps = 8\nrecipes = ["direction"]'), "init: 'direction' cannot start"),
        (SHARED, "init: texts of 'tarasov2026+low-dim@in_group"),
    ],
)
def test_refused_with_the_key(draft, write_spec, measured, change, problem):
    path = write_spec(INIT, change)
    with pytest.raises(UsageError) as caught:
        measured(path)
    assert str(caught.value).startswith(f"{path}: {problem}")
