"""A text that continues from a checkpoint ends as it would have without an interruption."""

import contextlib
from dataclasses import fields
from itertools import pairwise

import pytest
import safetensors.torch
import torch

from memcram import study
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.errors import Interrupted
from memcram.recipes.catalogue import get_recipe
from memcram.study import in_progress, read_spec, run_study
from memcram.study.clock import Clock
from stored import assert_same

PROSE = "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "
RECIPES = [
    "default",
    "default@k=8",
    "direction@decay_steps=10",
    "kuratov2025+t1",
    "tarasov2026+low-dim@k=8,lr=0.1",
]


def requests():
    generator = torch.Generator().manual_seed(3)
    return [
        CramRequest(
            i, torch.randint(0, 50, (n,), generator=generator), 1 + i % 2, i, with_path=True
        )
        for i, n in enumerate((12, 7, 9))
    ]


def interrupted(engine, turns, work=None):
    """Checkpoints after so many turns, through bytes; and the results until then.

    Texts in the batch after each turn are added to `work`.
    """
    kept, done = {}, {}

    def poll(status):
        if work is not None:
            work.append(status.active)
        if status.steps == turns:
            for key, text in engine.checkpoints().items():
                kept[key] = safetensors.torch.load(safetensors.torch.save(text))
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        for one in engine.run(requests(), poll):
            if one.outcome != "interrupted":
                done[one.key] = one
    return kept, done


@pytest.mark.parametrize(
    ("name", "compute_dtype"), [*((name, "float32") for name in RECIPES), ("default", "bfloat16")]
)
def test_a_text_continues_as_if_nothing_had_happened(tiny_lm, name, compute_dtype):
    recipe = get_recipe(name).for_one_text()
    recipe = (recipe if name.startswith("kuratov") else recipe.for_horizon()).with_steps(14)

    def engine():
        return Engine(tiny_lm, recipe, batch_tokens=28, compute_dtype=compute_dtype)

    needed, work = [], []
    run = engine().run(requests(), lambda status: needed.append(status.active))
    whole = {one.key: one for one in run}
    kept, found = interrupted(engine(), turns=6, work=work)
    assert kept
    left = [one for one in requests() if one.key not in found]
    resumed = engine().run(left, lambda status: work.append(status.active), checkpoints=kept)
    found |= {one.key: one for one in resumed}
    assert set(found) == set(whole)
    assert sum(work) == sum(needed)  # nothing was done twice
    for key, one in whole.items():
        for field in fields(one):
            value, other = getattr(one, field.name), getattr(found[key], field.name)
            same = torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
            assert same, (key, field.name)


def test_a_checkpoint_of_another_recipe_is_ignored(tiny_lm):
    def engine(name):
        recipe = get_recipe(name).for_one_text().for_horizon().with_steps(8)
        return Engine(tiny_lm, recipe, compute_dtype="float32")

    kept, _ = interrupted(engine("default"), turns=3)
    whole = {one.key: one for one in engine("direct").run(requests())}
    for one in engine("direct").run(requests(), checkpoints=kept):
        assert torch.equal(one.mem, whole[one.key].mem)
        assert one.steps == whole[one.key].steps


DAMAGE = {
    "no curve": {"curve": None},
    "no rises": {"rises": None},
    "no steps of the path": {"path_steps": None},
    "a number as counters": {"counters": torch.tensor(6)},
    "no tokens": {"counters": torch.tensor([0, 3, 3, 9, 3, 1])},
    "more tokens than the text": {"counters": torch.tensor([99, 3, 3, 9, 3, 1])},
    "no stride": {"counters": torch.tensor([2, 3, 3, 9, 3, 0])},
    "a narrower path": {"path": torch.zeros(3, 1, 2)},
    "a table as numbers": {"curve_numbers": torch.zeros(3, 2, dtype=torch.long)},
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_contradictory_checkpoint_is_ignored(tiny_lm, name):
    recipe = get_recipe("default").for_one_text().for_horizon().with_steps(5)

    def engine():
        return Engine(tiny_lm, recipe, compute_dtype="float32")

    kept, _ = interrupted(engine(), turns=3)
    changed = {k: one for k, one in (kept[0] | DAMAGE[name]).items() if one is not None}
    whole, found = (
        next(engine().run(requests()[:1], checkpoints=one)) for one in ({}, {0: changed})
    )
    assert torch.equal(found.mem, whole.mem)
    assert (found.steps, found.token_steps) == (whole.steps, whole.token_steps)


def test_texts_that_have_begun_are_listed(tiny_lm):
    engine = Engine(tiny_lm, get_recipe("default").with_steps(3), batch_tokens=20)
    seen, done = [], []
    for crammed in engine.run(requests(), lambda status: seen.append((status, engine.begun))):
        done.append(crammed.key)
        assert crammed.key not in engine.begun
    assert len(done) == 3
    for status, begun in seen:
        assert len(set(begun)) == len(begun) == status.active
        assert status.active + status.waiting + status.done == 3
    assert {key for _, begun in seen for key in begun} == {0, 1, 2}
    assert max(len(begun) for _, begun in seen) < 3  # not all fit into a batch


SPEC = """\
name = "long"
kind = "horizon"
models = ["{model}"]
recipes = ["default", "direct"]
lengths = [12]
samples = 3
steps = 14

[[texts]]
name = "mine"
source = "files"
path = "a.txt"
passage_chars = 40
"""


@pytest.fixture
def prepared(tiny_folder, tmp_path, monkeypatch):
    """Two folders with the same spec; the state is copied at every poll."""
    monkeypatch.setattr(in_progress, "_COPY_SECONDS", 0.0)
    monkeypatch.setattr(in_progress, "_COPY_SHARE", float("inf"))
    for name in ("calm", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(PROSE * 12)
        (tmp_path / name / "long.toml").write_text(SPEC.format(model=tiny_folder))
    return tmp_path


def run(folder, monkeypatch, interrupt_after=None):
    """Run the study; Ctrl-C after so many turns of the engine. Returns the store and the turns."""
    spec = read_spec(folder / "long.toml")
    store = study.open_store(folder / "long.study", spec)
    turns = 0
    turn = Engine._turn

    def counted(self, batch, *, poll):
        nonlocal turns
        turns += 1
        if turns == interrupt_after:
            raise KeyboardInterrupt
        return turn(self, batch, poll=poll)

    with store.lock(), monkeypatch.context() as patch:
        patch.setattr(Engine, "_turn", counted)
        if interrupt_after is None:
            run_study(spec, store, device="cpu")
        else:
            with pytest.raises(Interrupted, match=r"texts and [1-3] in progress are kept"):
                run_study(spec, store, device="cpu")
    return store, turns


def test_an_interrupted_study_loses_no_work(prepared, monkeypatch):
    calm, needed = run(prepared / "calm", monkeypatch)
    file = prepared / "broken" / "long.study" / "in-progress.safetensors"
    spent = 0
    for after in (6, 10):
        _, turns = run(prepared / "broken", monkeypatch, interrupt_after=after)
        spent += turns - 1
        assert file.is_file()
    store, turns = run(prepared / "broken", monkeypatch)
    assert_same(store, calm)
    assert spent + turns == needed
    assert not file.exists()


def test_a_damaged_file_begins_the_texts_again(prepared, monkeypatch):
    calm, _ = run(prepared / "calm", monkeypatch)
    run(prepared / "broken", monkeypatch, interrupt_after=6)
    file = prepared / "broken" / "long.study" / "in-progress.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    store, _ = run(prepared / "broken", monkeypatch)
    assert_same(store, calm)


def test_a_file_with_another_checksum_or_version_is_ignored(prepared, monkeypatch):
    run(prepared / "broken", monkeypatch, interrupt_after=6)
    store = prepared / "broken" / "long.study"
    file, count = store / "in-progress.safetensors", in_progress.InProgress(store).count
    assert count == 3
    written = file.read_bytes()
    file.write_bytes(written[:-100] + bytes([written[-100] ^ 0x40]) + written[-99:])
    assert in_progress.InProgress(store).count == 0
    tensors = safetensors.torch.load(written)
    del tensors["sha256"]
    clock = next(name for name in tensors if name.endswith("/clock"))
    tensors[clock] = tensors[clock][:1]
    tensors["sha256"] = in_progress._checksum(tensors)
    file.write_bytes(safetensors.torch.save(tensors))
    assert in_progress.InProgress(store).count == count - 1
    file.write_bytes(written)
    monkeypatch.setattr(in_progress, "version", lambda _: "0.0.1")
    assert in_progress.InProgress(store).count == 0


def test_states_of_finished_texts_are_dropped(prepared, monkeypatch):
    """A run that is killed after it stored rows leaves the states of their texts."""
    run(prepared / "broken", monkeypatch, interrupt_after=6)
    file = prepared / "broken" / "long.study" / "in-progress.safetensors"
    left = file.read_bytes()
    spec = read_spec(prepared / "broken" / "long.toml")
    store = study.open_store(prepared / "broken" / "long.study", spec)
    with store.lock():
        run_study(spec, store, device="cpu", limit=3)
    file.write_bytes(left)
    run(prepared / "broken", monkeypatch)
    assert not file.exists()


def test_states_of_texts_that_the_spec_no_longer_has_are_dropped(prepared, monkeypatch):
    run(prepared / "broken", monkeypatch, interrupt_after=6)
    path = prepared / "broken" / "long.toml"
    path.write_text(path.read_text().replace("steps = 14", "steps = 4"))
    run(prepared / "broken", monkeypatch)
    assert not (prepared / "broken" / "long.study" / "in-progress.safetensors").exists()


def test_copies_take_a_small_share_of_the_time(monkeypatch):
    now = 100.0
    copies = []

    class Slow:
        """An engine whose state takes a second to copy."""

        def checkpoints(self):
            nonlocal now
            copies.append(now)
            now += 1.0
            return {}

    monkeypatch.setattr(in_progress.time, "monotonic", lambda: now)
    kept = in_progress.Copies({})
    for _ in range(1200):
        now += 0.25
        kept.copy_if_due(Slow(), (), Clock(1.0))
    assert copies[0] == 101.0
    gaps = [later - earlier for earlier, later in pairwise(copies)]
    assert set(gaps) == {51.0}  # a second of copying, and 50 of work
