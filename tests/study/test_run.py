"""Running a study: resuming, duplicates, contents of rows, failures."""

import dataclasses
import math
import shutil

import pytest
import torch

import memcram
from memcram.cli import run
from memcram.engine.loop import Engine
from memcram.errors import Interrupted, ModelError, UsageError
from memcram.models.folder import FolderFormat
from memcram.recipes.catalogue import RECIPES
from memcram.recipes.objectives.smooth_margin import SmoothMargin
from memcram.recipes.strategies import Outcome
from memcram.study.grid import expand
from memcram.study.read import read_spec
from memcram.study.results import ResultRow
from memcram.study.store import Store
from stored import assert_same, settled

TEXTS = 15  # 3 samples × 2 lengths × 2 K, and 3 random texts


def test_resumed_is_uninterrupted(place, measured, whole):
    kept = []
    for limit in (1, 2, 5):
        store = measured(place / "small.toml", limit=limit)
        kept.append(len(store.rows()))
    assert kept == [1, 3, 8]
    store = measured(place / "small.toml")
    assert_same(store, whole)
    assert sum(one["texts"] for one in store.runs()) == TEXTS
    assert {one["outcome"] for one in store.runs()} == {"done"}


SEEDS = ('name = "small"', 'name = "small"\nkind = "seeds"\nstarts = 2')


@pytest.mark.parametrize("changes", [(), (SEEDS, ("samples = 3", "samples = 1"))])
def test_store_made_when_every_weight_file_counted_is_continued(
    place, measured, write_spec, tiny_folder, monkeypatch, changes
):
    model = shutil.copytree(tiny_folder, place / "model")
    (model / "consolidated.safetensors").write_bytes(b"never loaded")
    spec = write_spec((str(tiny_folder), str(model)), *changes)
    before = FolderFormat().earlier_fingerprint(model)
    with monkeypatch.context() as earlier_version:
        earlier_version.setattr(FolderFormat, "fingerprint", lambda *_: before)
        earlier_version.setattr(FolderFormat, "earlier_fingerprint", lambda *_: None)
        kept = {row.task for row in measured(spec, limit=5).rows()}
    store = measured(spec)
    counts, rows = store.counts(), store.rows()
    assert kept
    assert kept < {row.task for row in rows}
    assert (counts.pending, counts.failed, counts.kept_aside) == (0, 0, 0)
    assert sum(one["texts"] for one in store.runs()) == len(rows)
    assert {row.fingerprint for row in rows} == {before}


def test_stray_weight_file_does_not_change_the_tasks_of_a_new_store(
    place, measured, write_spec, tiny_folder
):
    model = shutil.copytree(tiny_folder, place / "model")
    spec = write_spec((str(tiny_folder), str(model)))
    measured(spec, limit=3)
    (model / "stray.safetensors").write_bytes(b"never loaded")
    store = measured(spec)
    assert store.counts().kept_aside == 0
    assert sum(one["texts"] for one in store.runs()) == TEXTS


def test_second_run_does_nothing(measured, whole, monkeypatch):
    before = whole.rows()
    monkeypatch.setattr("memcram.study.worker.load_lm", None)  # not even the model is loaded
    store = measured(whole.folder.with_name("small.toml"))
    assert store.rows() == before
    assert store.counts().pending == 0


def test_ctrl_c_stores_finished_texts(place, measured, whole, monkeypatch):
    turn, turns = Engine._turn, iter(range(1000))

    def impatient(self, batch, *, poll):
        if next(turns) == 24:
            raise KeyboardInterrupt
        return turn(self, batch, poll=poll)

    # One text at a time, 9 turns each: two are finished, and wait to be measured. The third has
    # no copy of its state yet, however slow the machine is.
    monkeypatch.setattr("memcram.study.in_progress._COPY_SECONDS", float("inf"))
    monkeypatch.setattr("memcram.engine.batch_size._CPU_TOKENS", 1)
    monkeypatch.setattr(Engine, "_turn", impatient)
    with pytest.raises(
        Interrupted, match=r"2 of 15 texts are kept in .*; run the command again to continue"
    ):
        measured(place / "small.toml")
    monkeypatch.undo()
    assert_same(measured(place / "small.toml"), whole)


def test_ctrl_c_after_rows_are_stored_counts_them_once(place, measured):
    def impatient(progress):
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        measured(place / "small.toml", on_progress=impatient)
    store = Store(place / "small.study")
    [last], rows = store.runs(), store.rows()
    counted = [last[name] for name in ("texts", "tokens", "token_steps")]
    assert counted == [len(rows), sum(r.tokens for r in rows), sum(r.token_steps for r in rows)]


def test_ctrl_c_on_the_command_line(place, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "_turn", interrupted)
    assert run(["study", "run", str(place / "small.toml"), "--device", "cpu"]) == 130
    line = capsys.readouterr().err.strip()  # click ends the line that ^C stands on
    assert line.startswith(f"memcram: interrupted; 0 of {TEXTS} texts are kept in ")
    assert "\n" not in line


def test_duplicates_count_once(place, measured, write_spec, whole):
    again = """
[[texts]]
name = "the same again"
source = "files"
path = "texts"
passage_chars = 60
samples = 2
lengths = [9, 9, 4]
"""
    path = write_spec(("[4, 9]", "[4, 9, 4]"), ("[1, 2]", "[2, 1, 1]"), name="b.toml", tail=again)
    store = measured(path)
    key = "task"
    assert {getattr(row, key) for row in store.rows()} == {row.task for row in whole.rows()}
    assert len(store.rows()) == TEXTS
    assert {row.source for row in store.rows()} == {"mine", "words"}


def test_task_ids_do_not_depend_on_paths(place, measured, whole, tmp_path, tiny_folder):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "texts").mkdir()
    (elsewhere / "texts" / "harbour.txt").write_text((place / "texts/harbour.txt").read_text())
    tiny_folder.rename(tiny_folder.with_name("moved"))
    try:
        text = (place / "small.toml").read_text()
        moved = text.replace(str(tiny_folder), str(tiny_folder.with_name("moved")))
        (elsewhere / "small.toml").write_text(moved)
        there = measured(elsewhere / "small.toml").rows()
    finally:
        tiny_folder.with_name("moved").rename(tiny_folder)
    for mine, its in zip(whole.rows(), there, strict=True):
        assert settled(mine) == settled(its) | {"model": mine.model}


CHANGES = {
    "seed": ("samples = 3", "samples = 3\nseed = 1"),
    "steps": ("steps = 8", "steps = 9"),
    "token-steps": ("steps = 8", "steps = 8\ntoken_steps = 100"),
    "recipe": ("steps = 8", 'steps = 8\nrecipes = ["kuratov2025+t1"]'),
    "dtype": ("steps = 8", 'steps = 8\ndtype = "float64"'),
    "compute dtype": ("steps = 8", 'steps = 8\ncompute_dtype = "bfloat16"'),
    "compile": ("steps = 8", 'steps = 8\ncompute_dtype = "bfloat16"\ncompile = true'),
    "source option": ("passage_chars = 60", "passage_chars = 61"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_determines_a_row_changes_its_task(write_spec, place, tiny_lm, tiny_lm64, change):
    old = {task.id for task in expand(read_spec(place / "small.toml"), 0, tiny_lm)}
    lm = tiny_lm64 if change == "dtype" else tiny_lm
    new = expand(read_spec(write_spec(CHANGES[change], name="b.toml")), 0, lm)
    changed = [task for task in new if task.id not in old]
    # An option of one source leaves the texts of the other as they are.
    of_one = [task for task in new if task.source == "mine"]
    assert changed == (of_one if change == "source option" else new)


@pytest.mark.parametrize("same", ["float32", "auto"])
def test_the_models_own_dtype_to_compute_in_changes_no_task(write_spec, place, tiny_lm, same):
    old = [task.id for task in expand(read_spec(place / "small.toml"), 0, tiny_lm)]
    path = write_spec(("steps = 8", f'steps = 8\ncompute_dtype = "{same}"'), name="b.toml")
    assert [task.id for task in expand(read_spec(path), 0, tiny_lm)] == old


def test_a_compute_dtype_wider_than_the_model_is_refused(write_spec, tiny_folder):
    lm = memcram.load_lm(str(tiny_folder), device="cpu", dtype="bfloat16")
    change = 'steps = 8\ndtype = "bfloat16"\ncompute_dtype = "float32"'
    spec = read_spec(write_spec(("steps = 8", change)))
    with pytest.raises(UsageError, match="compute_dtype: got 'float32', allowed: auto, bfloat16"):
        expand(spec, 0, lm)


def test_compiling_in_the_models_own_dtype_is_refused(write_spec, tiny_lm):
    spec = read_spec(write_spec(("steps = 8", "steps = 8\ncompile = true")))
    with pytest.raises(UsageError, match="compile: the model is optimised in its own dtype"):
        expand(spec, 0, tiny_lm)


@pytest.mark.parametrize("kind", ["capacity", "horizon"])
def test_a_text_stops_when_its_token_steps_reach_the_budget(measured, write_spec, tiny_lm, kind):
    budget = 100
    change = ("steps = 8", f'token_steps = {budget}\nkind = "{kind}"')
    path = write_spec(change, name="b.toml")
    costs = {task.id: task.cost for task in expand(read_spec(path), 0, tiny_lm)}
    rows = measured(path).rows()
    spent = [row for row in rows if row.outcome == "budget_exhausted"]
    assert len(spent) > len(rows) / 2
    for row in rows:
        one_pass = row.vectors + row.length - 1
        assert row.token_steps <= costs[row.task] == budget + one_pass - 1
    assert all(budget <= row.token_steps for row in spent)


def test_another_spec_in_the_same_store(place, measured, write_spec):
    store = measured(place / "small.toml")
    before = store.rows()
    write_spec(("lengths = [4, 9]", "lengths = [4, 7]"), ('"mine"', '"ours"'))
    store = measured(place / "small.toml")
    assert {row.length for row in store.rows() if row.source == "ours"} == {4, 7}
    assert store.counts().kept_aside == 6
    kept = {row.task: row for row in before}
    again = [row for row in store.rows() if row.task in kept]
    assert [row.seconds for row in again] == [kept[row.task].seconds for row in again]


def test_a_recipe_that_changed_is_measured_again(place, measured, monkeypatch):
    before = {row.task for row in measured(place / "small.toml").rows()}
    changed = dataclasses.replace(RECIPES["default"], objective=SmoothMargin(tau=0.3))
    monkeypatch.setitem(RECIPES, "default", changed)
    store = measured(place / "small.toml")
    assert len(store.rows()) == len(before)
    assert not before & {row.task for row in store.rows()}
    assert store.counts().kept_aside == len(before)


def test_rows_equal_a_direct_computation(place, whole, tiny_folder):
    """One text at a time, with a plain forward pass."""
    lm = memcram.load_lm(str(tiny_folder), device="cpu")
    for row in whole.rows():
        record = whole.record(row.task)
        ids, mem = record.ids, record.mem
        assert record.mem.shape == (row.vectors, row.width)
        assert row.tokens == row.length == len(ids) == row.n_counted
        inputs = torch.cat([mem, lm.embed(ids[:-1])])
        with torch.no_grad():
            logits = lm.head(lm.hidden(inputs[None]))[0, row.vectors - 1 :]
            alone = lm.head(lm.hidden(lm.embed(ids[:-1])[None]))[0]
        nats = -logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
        assert row.first_nats == pytest.approx(nats[0].item(), abs=1e-4)
        assert row.mem_nats == pytest.approx(nats[1:].sum().item(), abs=1e-3)
        bare = -alone.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        assert row.lm_nats == pytest.approx(bare.sum().item(), abs=1e-3)
        assert row.n_right == int((logits.argmax(-1) == ids).sum())
        assert row.mem_right == int((logits.argmax(-1) == ids)[1:].sum())
        assert row.lm_right == int((alone.argmax(-1) == ids[1:]).sum())
        assert row.accuracy == row.n_right / row.n_counted
        back = lm.generate(mem, len(ids))
        first_miss = int((back == ids).long().cumprod(0).sum())
        assert (row.horizon, row.exact) == (first_miss, first_miss == len(ids))
        assert row.utf8_bytes == len(ids)  # one token a byte
        assert math.isnan(record.lm_nats[0].item())
        assert record.lm_ranks[0] == -1
        assert row.seconds >= 0
        assert row.paper_accuracy is None


def test_shorter_texts_are_prefixes(whole):
    by_text = {}
    for row in whole.rows():
        if row.source == "mine":
            by_text.setdefault(row.text_id, []).append(whole.record(row.task).ids)
    assert len(by_text) == 3
    for texts in by_text.values():
        longest = max(texts, key=len)
        assert {len(text) for text in texts} == {4, 9}
        assert all(torch.equal(text, longest[: len(text)]) for text in texts)


def test_lengths_up_to_draws_a_length_per_text(measured, write_spec):
    few = measured(write_spec(("words = 20", "words = 20\nsamples = 9"), name="b.toml"))
    lengths = [row.length for row in few.rows() if row.source == "words"]
    assert len(lengths) == 9
    assert all(2 <= length <= 12 for length in lengths)
    assert len(set(lengths)) > 3


def test_first_token_given_and_paper_columns(measured, write_spec):
    change = ("steps = 8", 'steps = 8\nrecipes = ["kuratov2025"]')
    store = measured(write_spec(change, name="b.toml"))
    for row in store.rows():
        record = store.record(row.task)
        assert row.first_token_given
        assert row.first_nats is None
        assert row.n_counted == row.tokens - 1
        assert math.isnan(record.mem_nats[0].item())
        assert record.mem_ranks[0] == record.learned_step[0] == -1
        assert row.paper_accuracy >= row.accuracy
        assert row.paper_mem_nats <= row.mem_nats / (row.tokens - 1) * row.tokens + 1e-4
        assert row.paper_lm_nats == pytest.approx(row.lm_nats / (row.tokens - 1) * row.tokens)


@pytest.mark.parametrize(
    ("base", "name", "filled"),
    [("kuratov2025", "renamed", True), ("tarasov2026", "kuratov2025-like", False)],
)
def test_recipe_and_not_its_name_fills_the_paper_columns(
    measured, write_spec, monkeypatch, base, name, filled
):
    monkeypatch.setitem(RECIPES, name, dataclasses.replace(RECIPES[base], name=name))
    change = ("steps = 8", f'steps = 8\nrecipes = ["{name}"]')
    [row] = measured(write_spec(change, name="b.toml"), limit=1).rows()
    columns = (row.paper_accuracy, row.paper_mem_nats, row.paper_lm_nats)
    assert [value is not None for value in columns] == [filled] * 3


def test_another_loss_fills_no_paper_columns(measured, write_spec):
    recipe = "kuratov2025@objective=HingeMargin"
    change = ("steps = 8", f'steps = 8\nrecipes = ["{recipe}"]')
    for row in measured(write_spec(change, name="b.toml"), limit=2).rows():
        assert row.recipe == recipe
        assert row.paper_mem_nats is None


def test_horizon_measures_the_prefix_that_is_held(measured, write_spec, tiny_folder, pocket):
    kind = 'kind = "horizon"\nlengths = [24]'
    changes = [("lengths = [4, 9]", kind), (str(tiny_folder), "pocket"), ("= 12\n", "= 3\n")]
    more = [("= 8", "= 16"), ("chars = 60", "chars = 500"), ("samples = 3", "samples = 2")]
    store = measured(write_spec(*changes, *more))
    assert len(store.rows()) == 6
    assert any(row.horizon > 1 for row in store.rows())
    for row in store.rows():
        record = store.record(row.task)
        assert row.length >= row.tokens == row.n_counted == len(record.ids) >= 1
        assert len(record.learned_step) == len(record.margins) == row.tokens
        back = pocket.generate(record.mem, row.tokens)
        assert row.horizon == int((back == record.ids).long().cumprod(0).sum())
        assert row.exact == (row.horizon == row.tokens)
        assert row.censored == (row.horizon == row.length)


def test_groups_are_not_split_and_resume(measured, write_spec, place):
    changes = [
        (
            "lengths = [4, 9]",
            'kind = "horizon"\nlengths = [6]\n'
            'recipes = ["tarasov2026+low-dim@in_group=true,group_size=10"]',
        ),
        ("lengths_up_to = 12\n", ""),
        ("samples = 3", "samples = 12"),
        ("vectors = [1, 2]", "vectors = [1]"),
    ]
    path = write_spec(*changes, name="g.toml")
    whole = measured(path, place / "g-whole.study")
    store = measured(path, limit=1)
    assert len(store.rows()) == 10  # the group that the first text belongs to
    # A text that is missing from a finished group needs the whole group again.
    task = store.rows()[3].task
    store._db.execute("DELETE FROM rows WHERE task = ?", (task,))
    store._db.execute("UPDATE tasks SET status = 'pending' WHERE id = ?", (task,))
    assert_same(measured(path), whole)


def test_non_finite_text_has_a_row(place, measured, monkeypatch):
    score = Engine._score

    def broken(self, batch, counted):
        loss, margin, gradient = score(self, batch, counted)
        return loss * float("nan"), margin, gradient

    monkeypatch.setattr(Engine, "_score", broken)
    store = measured(place / "small.toml")
    assert {row.outcome for row in store.rows()} == {str(Outcome.NON_FINITE)}
    assert len(store.rows()) == TEXTS


def test_non_finite_numbers_are_stored(place, measured, monkeypatch):
    from memcram.study import measure

    def nowhere(nats):
        return float("nan")

    monkeypatch.setattr(measure, "_total", nowhere)
    store = measured(place / "small.toml", limit=2)
    assert all(isinstance(row, ResultRow) and math.isnan(row.mem_nats) for row in store.rows())


def test_text_too_large_for_the_device_fails_alone(place, measured, monkeypatch, whole, capsys):
    turn = Engine._turn

    def small_device(self, batch, *, poll):
        if any(len(slot.request.ids) == 9 and slot.request.vectors == 2 for slot in batch.slots):
            raise torch.OutOfMemoryError("out of memory")
        return turn(self, batch, poll=poll)

    monkeypatch.setattr(Engine, "_turn", small_device)
    store = measured(place / "small.toml")
    failed = store.failures()
    assert len(failed) == 3
    assert all("out of memory" in reason for _, reason in failed)
    assert len(store.rows()) == TEXTS - 3
    capsys.readouterr()
    assert run(["study", "status", str(store.folder)]) == 0
    assert "failed (3): out of memory" in capsys.readouterr().out
    monkeypatch.undo()
    assert_same(measured(place / "small.toml"), whole)  # failures are tried again


def test_an_error_that_every_text_would_have_ends_the_run(place, measured, monkeypatch):
    turns = []

    def broken(self, batch, *, poll):
        turns.append(batch)
        raise ModelError("torch.compile failed (no headers)")

    monkeypatch.setattr(Engine, "_turn", broken)
    with pytest.raises(ModelError, match=r"torch\.compile failed"):
        measured(place / "small.toml")
    store = Store(place / "small.study")
    assert len(turns) == 1
    assert store.failures() == []
    assert store.last_run()[0] == "failed"


def test_length_beyond_the_positions(measured, write_spec, tiny_folder):
    path = write_spec(("lengths = [4, 9]", "lengths = [4, 128]"))
    with pytest.raises(UsageError) as caught:
        measured(path)
    assert f"{path}: lengths[1]: got 128 tokens with 2 vectors, allowed: at most 127" in (
        str(caught.value)
    )
    assert "128 positions" in str(caught.value)


def test_too_few_texts(measured, write_spec):
    path = write_spec(("words = 20", "words = 1"))
    with pytest.raises(UsageError) as caught:
        measured(path)
    assert str(caught.value).startswith(f"{path}: texts[1]: ")
    assert "3 are needed" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unloadable_model_loses_no_rows(place, measured, write_spec, tiny_folder):
    change = (f'"{tiny_folder}"]', f'"{tiny_folder}", "{place / "texts"}"]')
    path = write_spec(change)
    with pytest.raises(ModelError, match="15 of 30 texts are kept in"):
        measured(path)


def test_text_whose_first_token_is_given_is_decoded_after_it(measured, write_spec, tiny_folder):
    """The horizon counts tokens that free-running decoding returns after the given one."""
    spec = write_spec(
        (str(tiny_folder), "pocket"),
        ("steps = 8", 'steps = 150\nrecipes = ["default@first_token_given=true"]'),
    )
    rows = measured(spec, limit=4).rows()
    correct = [row for row in rows if row.outcome == "right"]
    assert correct
    assert all(row.exact and row.horizon == row.n_counted == row.tokens - 1 for row in correct)
