"""Ablations: contents of their rows, and resuming."""

import dataclasses

import pytest
import safetensors.torch
import torch

import memcram
import small_texts
from memcram import CramRequest
from memcram.errors import UsageError
from memcram.models.scoring import score
from memcram.study.kinds import KINDS
from memcram.study.read import read_spec
from stored import assert_same, settled

SPEC = """\
name = "small"
kind = "{kind}"
models = ["{model}"]
vectors = [1]
lengths = [4, 7]
samples = 2
steps = 6
{key}

[[texts]]
name = "mine"
source = "books"
path = "books"
min_words = 240
max_words = 520
"""
KEYS = {
    "context": "contexts = [3, 12]",
    "repeat": "",
    "seeds": "starts = 3",
    "depth": "layers = [1, 2]",
    "prefix": 'prefix_recipes = ["direct@lr=0.3"]',
}
ROWS = {
    "context": 2 * 2 * 3,
    "repeat": 2 * 2 * 2,
    "seeds": 2 * 2 * (3 + 9),
    "depth": 2 * 2 * 2,
    "prefix": 2 * 2 * 2,
}


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    return small_texts.write_books(tmp_path_factory.mktemp("shelf") / "books")


@pytest.fixture
def spec_of(tmp_path, tiny_folder, books):
    """Write the spec of a kind: `path = spec_of("depth", (old, new))`."""

    def write(kind, *changes, name="small.toml"):
        text = SPEC.format(kind=kind, model=tiny_folder, key=KEYS[kind])
        text = text.replace('path = "books"', f'path = "{books}"')
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def by_condition(store):
    found = {}
    for row in store.rows():
        found.setdefault(row.condition, []).append(row)
    return found


@pytest.mark.parametrize("kind", KEYS)
def test_resumed_is_uninterrupted(kind, spec_of, measured):
    path = spec_of(kind)
    whole = measured(path, path.with_name("whole.study"))
    assert len(whole.rows()) == ROWS[kind]
    assert {row.kind for row in whole.rows()} == {kind}
    for limit in (1, 4):
        store = measured(path, limit=limit)
    assert len(store.rows()) == 5
    store = measured(path)
    assert_same(store, whole)
    assert sum(one["texts"] for one in store.runs()) == ROWS[kind]


def test_context_rows_are_the_bare_lm_after_the_context(spec_of, measured, tiny_lm, books):
    store = measured(spec_of("context"))
    found = by_condition(store)
    assert list(found) == ["", "context=3", "context=12"]
    assert {row.vectors for row in found[""]} == {1}
    source = small_texts.make_source("books", path=books, **small_texts.CHUNK)
    samples = {
        sample.id: sample for sample in source.sample(tiny_lm.tokenize, samples=2, n_tokens=7)
    }
    for n in (3, 12):
        for row in found[f"context={n}"]:
            sample = samples[row.text_id]
            before = torch.tensor(tiny_lm.tokenize(sample.left)[-n:])
            ids = sample.ids[: row.length]
            [scored] = score(tiny_lm, [torch.cat([before, ids])])
            assert row.mem_nats == pytest.approx(scored.nats[n + 1 :].sum().item(), rel=1e-5)
            assert row.n_right == int((scored.ranks[n:] == 0).sum())
            assert (row.vectors, row.steps, row.outcome) == (0, 0, "")
            assert store.record(row.task).mem.shape == (0, tiny_lm.input_width)
            plain = [r for r in found[""] if (r.text_id, r.length) == (row.text_id, row.length)]
            assert [r.lm_nats for r in plain] == [row.lm_nats]


def test_repeated_text_has_each_token_twice(spec_of, measured):
    store = measured(spec_of("repeat"))
    found = by_condition(store)
    for once, twice in zip(found[""], found["times=2"], strict=True):
        ids, doubled = store.record(once.task).ids, store.record(twice.task).ids
        assert torch.equal(doubled, torch.cat([ids, ids]))
        assert (twice.length, twice.text_id) == (2 * once.length, once.text_id)
        # The bare LM of the first half is that of the text alone.
        first = store.record(twice.task).lm_nats[1 : len(ids)]
        assert torch.allclose(first, store.record(once.task).lm_nats[1:], atol=1e-5)


def test_inits_differ_and_line_interpolates_solutions(spec_of, measured):
    store = measured(spec_of("seeds"))
    found = by_condition(store)
    assert list(found)[:4] == ["start=0", "start=1", "start=2", "line=0.1"]
    assert len(found) == 3 + 9
    assert len({row.seed for i in range(3) for row in found[f"start={i}"]}) == 2 * 3
    ends = zip(found["start=0"], found["start=1"], found["line=0.3"], strict=True)
    for first, second, between in ends:
        a, b, c = (store.record(row.task) for row in (first, second, between))
        assert first.text_id == second.text_id == between.text_id
        assert torch.equal(a.ids, c.ids)
        assert not torch.allclose(a.mem, b.mem)
        assert torch.allclose(c.mem, 0.7 * a.mem + 0.3 * b.mem, atol=1e-6)
        assert (between.steps, between.outcome, between.vectors) == (0, "", 1)


def test_only_solutions_have_a_path(spec_of, measured, tiny_lm):
    store = measured(spec_of("seeds"))
    for row in store.rows():
        record = store.record(row.task)
        if row.condition.startswith("line="):
            assert (record.path, record.path_steps) == (None, None)
            continue
        assert torch.equal(record.path[-1], record.mem)
        assert record.path_steps[-1] == row.best_step
        assert sorted(record.path_steps.tolist()) == list(range(row.steps + 1))
        request = CramRequest("a", record.ids, row.vectors, row.seed, with_path=True)
        recipe = memcram.get_recipe(row.recipe).with_steps(6)
        [alone] = memcram.Engine(tiny_lm, recipe).run([request])
        assert torch.equal(record.path, alone.path)


@pytest.mark.parametrize("kind", ["context", "repeat", "depth", "prefix"])
def test_other_kinds_store_no_path(kind, spec_of, measured):
    store = measured(spec_of(kind))
    for row in store.rows():
        found = safetensors.torch.load(store.vectors_path(row.task).read_bytes())
        assert not [name for name in found if "path" in name]


def test_store_from_before_paths_can_be_resumed(spec_of, measured, monkeypatch):
    """Rows and tasks do not depend on paths; rows without one stay unchanged."""
    kept = measured(spec_of("seeds"), spec_of("seeds").with_name("kept.study"))
    before = dataclasses.replace(KINDS["seeds"], keeps_path=False)
    monkeypatch.setitem(KINDS, "seeds", before)
    path = spec_of("seeds")
    measured(path, limit=4)
    monkeypatch.undo()
    store = measured(path)
    assert [settled(row) for row in store.rows()] == [settled(row) for row in kept.rows()]
    paths = [store.record(row.task).path is not None for row in store.rows()]
    assert paths.count(True) == 2 * 2 * 3 - 4
    for row in store.rows():
        assert torch.equal(store.record(row.task).mem, kept.record(row.task).mem)


def test_line_without_solutions_fails_with_a_reason(spec_of, measured, monkeypatch):
    from memcram.engine.loop import Engine
    from memcram.errors import ModelError

    def no_memory(self, requests, on_poll, checkpoints):
        raise ModelError("out of memory with a single text")
        yield

    monkeypatch.setattr(Engine, "run", no_memory)
    store = measured(spec_of("seeds"))
    reasons = {reason for _, reason in store.failures()}
    assert not store.rows()
    assert "needs the vectors of two solutions, one of which has no row" in reasons
    monkeypatch.undo()
    assert len(measured(spec_of("seeds")).rows()) == ROWS["seeds"]


def test_depth_rows_are_those_of_the_shortened_model(spec_of, measured, tiny_lm):
    store = measured(spec_of("depth"))
    found = by_condition(store)
    assert {c: {row.layers for row in rows} for c, rows in found.items()} == {
        "layers=1": {1},
        "layers=2": {2},
    }
    assert {row.fingerprint for row in found["layers=2"]} == {tiny_lm.identity.fingerprint}
    assert {row.fingerprint for row in found["layers=1"]}.isdisjoint({tiny_lm.identity.fingerprint})
    assert all(row.n_counted == row.tokens for row in store.rows())  # the prefix that is held


def test_all_layers_are_a_horizon_study(spec_of, measured):
    deep = measured(spec_of("depth", ("layers = [1, 2]", "layers = [2]")))
    plain = spec_of("depth", ("layers = [1, 2]", ""), ('"depth"', '"horizon"'), name="h.toml")
    names = ("task", "kind", "condition", "seconds")
    ours, theirs = (
        [
            {k: v for k, v in dataclasses.asdict(row).items() if k not in names}
            for row in store.rows()
        ]
        for store in (deep, measured(plain))
    )
    assert ours == theirs


MISTAKES = {
    "a key of another kind": ("depth", ("steps", "starts = 2\nsteps"), "toml: starts: unknown"),
    "without its key": ("seeds", ("starts = 3", ""), "toml: kind: got 'seeds', which needs"),
    "one start": ("seeds", ("starts = 3", "starts = 1"), "toml: starts: got 1, allowed:"),
    "no context": ("context", ("[3, 12]", "[0]"), "toml: contexts[0]: got 0, allowed:"),
    "no layers": ("depth", ("[1, 2]", "[]"), "toml: layers: got [], allowed:"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_error_names_the_key(mistake, spec_of):
    kind, change, says = MISTAKES[mistake]
    with pytest.raises(UsageError) as caught:
        read_spec(spec_of(kind, change))
    assert says in str(caught.value)


LATER = {
    "more context than positions": (
        "context",
        ("12]", "200]"),
        r"got 4 tokens after 200 tokens of context, allowed: at most 0",
    ),
    "more layers than there are": ("depth", ("2]", "3]"), r"toml: layers\[1\]: got 3, allowed"),
    "no left context": (
        "context",
        ('source = "books"', 'source = "files"'),
        r"toml: contexts\[0\]: got 3, .*'mine' has 0 tokens of left context",
    ),
    "twice exceeds the positions": ("repeat", ("[4, 7]", "[4, 80]"), r"got 160 tokens .* twice"),
}


@pytest.mark.parametrize("mistake", LATER)
def test_errors_that_depend_on_model_or_texts(mistake, spec_of, measured):
    kind, change, says = LATER[mistake]
    changes = [change]
    if mistake == "no left context":
        changes.append(("min_words = 240\nmax_words = 520\n", ""))
    with pytest.raises(UsageError, match=says):
        measured(spec_of(kind, *changes))


def test_context_requires_the_layout_mem(spec_of, tiny_folder):
    model = f'models = [{{id = "{tiny_folder}", layout = "mem+bos"}}]'
    with pytest.raises(UsageError, match=r"toml: models\[0\].layout: got 'mem\+bos', allowed"):
        read_spec(spec_of("context", (f'models = ["{tiny_folder}"]', model)))
