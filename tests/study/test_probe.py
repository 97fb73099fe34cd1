"""The kind `probe`: contents of its rows against scores computed one by one, and its errors."""

import csv
import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch

import small_texts
from memcram.cli import run
from memcram.errors import Interrupted, ModelError, UsageError
from memcram.models.scoring import score
from memcram.study import measure
from memcram.study.grid import expand
from memcram.study.probe import random_vectors
from memcram.study.probe_items import read_items
from memcram.study.probe_record import CONTEXTS
from memcram.study.probe_values import MEASURES, probe_values, table_of
from memcram.study.read import read_spec
from memcram.study.runner import open_store, run_study
from memcram.study.store import Store
from stored import assert_same

ITEMS = Path(__file__).parents[2] / "benchmarks" / "specs" / "probe-items.jsonl"
SPEC = """\
name = "small"
kind = "probe"
models = ["{model}"]
vectors = [1, 2]
lengths = [4]
samples = 3
steps = 40

[probe]
continuation = 6
others = 2
items = "items.jsonl"

[[texts]]
name = "mine"
source = "books"
path = "{books}"
min_words = 240
max_words = 520
"""


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    return small_texts.write_books(tmp_path_factory.mktemp("shelf") / "books")


def write_spec(folder, model, books, *changes):
    """Write the spec with changes, and its items; returns its path."""
    text = SPEC.format(model=model, books=books)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    lines = ITEMS.read_text(encoding="utf-8").splitlines()[3:5]
    (folder / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "small.toml").write_text(text)
    return folder / "small.toml"


@pytest.fixture
def spec_of(tmp_path, tiny_folder, books):
    """Write the spec with changes: `path = spec_of((old, new))`."""
    return partial(write_spec, tmp_path, tiny_folder, books)


@pytest.fixture(scope="module")
def probed(tmp_path_factory, tiny_folder, books):
    """The store of the study after an uninterrupted run; read only."""
    path = write_spec(tmp_path_factory.mktemp("probed"), tiny_folder, books)
    spec = read_spec(path)
    store = open_store(path.with_suffix(".study"), spec)
    with store.lock():
        run_study(spec, store, device="cpu")
    return store


def test_rows_and_shapes(probed):
    rows = probed.rows()
    assert [row.vectors for row in rows] == [1, 1, 1, 2, 2, 2]
    assert {row.kind for row in rows} == {"probe"}
    assert any(row.exact for row in rows)
    for row in rows:
        record = probed.record(row.task)
        assert record.probe_nats.shape == (4, 3, 6)
        assert record.probe_attention.shape == (2, 2, 2)
        assert record.probe_cuts.shape == (2, 3, 2)
        assert record.probe_item_nats.shape == (3, 2, 4)
        assert record.probe_items.shape == (2, 5)


def test_continuations_are_scored_after_each_context(probed, tiny_lm, books):
    source = small_texts.make_source("books", path=books, **small_texts.CHUNK)
    samples = source.sample(tiny_lm.tokenize, samples=3, n_tokens=10)
    ids = {sample.id: sample.ids for sample in samples}
    order = [sample.id for sample in samples]
    near = {0: (1, 2), 1: (0, 2), 2: (1, 0)}  # those before, then those after
    for row in probed.rows():
        record, n = probed.record(row.task), row.tokens
        texts = [row.text_id, *(order[i] for i in near[order.index(row.text_id)])]
        noise = random_vectors(record.mem, row.seed)
        assert torch.allclose(noise.norm(dim=1), record.mem.norm(dim=1))
        for place, text in enumerate(texts):
            then = ids[text][n : n + 6]
            expected = {
                "mem": score(tiny_lm, [then], [record.mem])[0].nats,
                "passage": score(tiny_lm, [torch.cat([record.ids, then])])[0].nats[n:],
                "none": score(tiny_lm, [then])[0].nats,
                "random": score(tiny_lm, [then], [noise])[0].nats,
            }
            for context, found in zip(CONTEXTS, record.probe_nats[:, place], strict=True):
                assert torch.allclose(found, expected[context], atol=1e-4, equal_nan=True)


def test_nothing_cut_is_the_row(probed):
    for row in probed.rows():
        record = probed.record(row.task)
        single, first = record.probe_cuts
        mean = (row.first_nats + row.mem_nats) / row.n_counted
        assert torch.allclose(single[0], torch.tensor([row.n_right, mean]), atol=1e-4)
        assert torch.allclose(single[0], first[0])
        assert torch.allclose(single[1], first[1])


def test_random_vectors_are_not_the_init():
    mem = torch.ones(2, 64)
    init = torch.randn(2, 64, generator=torch.Generator().manual_seed(5))
    found = random_vectors(mem, 5)
    assert torch.cosine_similarity(found, init).abs().max() < 0.5
    assert torch.equal(found, random_vectors(mem, 5))
    assert not torch.equal(found, random_vectors(mem, 6))


def test_items_are_scored_with_and_without_vectors(probed, tiny_lm):
    items = read_items(probed.spec_folder / "items.jsonl")
    for row in probed.rows()[:4:3]:
        record = probed.record(row.task)
        mems = [record.mem[:0], record.mem, random_vectors(record.mem, row.seed)]
        for place, item in enumerate(items):
            context = torch.tensor(tiny_lm.tokenize(item.context))
            for column, choice in enumerate(item.choices):
                ids = torch.tensor(tiny_lm.tokenize(f"{item.context} {choice}"))
                for mem, found in zip(mems, record.probe_item_nats, strict=True):
                    [scored] = score(tiny_lm, [ids], [mem])
                    expected = scored.nats[len(context) :].sum()
                    assert found[place, column] == pytest.approx(expected.item(), rel=1e-4)
            facts = [item.answer, *map(len, item.choices)]
            assert record.probe_items[place].tolist() == facts


def test_values_of_a_record_by_hand(probed):
    record = dataclasses.replace(
        probed.record(probed.rows()[0].task),
        probe_nats=torch.tensor(
            [
                [[9.0, 1.0], [9.0, 4.0]],
                [[9.0, 2.0], [9.0, 3.0]],
                [[9.0, 5.0], [9.0, 4.0]],
                [[9.0, 1.0], [9.0, 1.0]],
            ]
        ),
        probe_attention=torch.tensor([[[0.25, 0.75]], [[0.0, 0.5]]]),
        probe_cuts=torch.tensor([[[4.0, 0.1], [1.0, 3.0]], [[4.0, 0.1], [2.0, 2.0]]]),
        # The second item has two choices, and the longer one wins by length only.
        probe_item_nats=torch.tensor(
            [
                [[1.0, 2.0, 3.0], [4.0, 3.0, torch.nan]],
                [[2.0, 1.0, 3.0], [4.0, 3.0, torch.nan]],
                [[3.0, 2.0, 1.0], [2.0, 3.0, torch.nan]],
            ]
        ),
        probe_items=torch.tensor([[0, 1, 1, 1], [0, 10, 1, 0]]),
    )
    found = {(v.measure, v.context, v.layer, v.head): v.value for v in probe_values(record, 4)}
    assert {key[0] for key in found} == set(MEASURES)
    advantages = [found["advantage", one, 0, 0] for one in CONTEXTS]
    assert advantages == [3.0, 1.0, -1.0, 0.0]
    assert found["advantage_over_none", "mem", 0, 0] == 4.0
    assert ("advantage_over_none", "none", 0, 0) not in found
    # Over nothing, [mem] gains 4 for the true continuation and 0 for the other one.
    won = [found["wins_over_none", one, 0, 0] for one in ("mem", "passage", "random")]
    assert won == [1.0, 1.0, 1.0]
    assert found["attention", "mem", 1, 2] == 0.75
    assert found["attention_mean", "random", 0, 0] == 0.25
    assert found["correct", "layer", 0, 0] == 1.0
    assert found["correct", "layer", 1, 0] == 0.25
    assert found["correct", "first", 1, 0] == 0.5
    assert [found["items", one, 0, 0] for one in ("none", "mem", "random")] == [0.5, 0.0, 0.5]
    by_length = [found["items_by_length", one, 0, 0] for one in ("none", "mem", "random")]
    assert by_length == [1.0, 0.5, 0.5]
    assert found["items_change", "mem", 0, 0] == -0.5
    assert found["items_by_length_change", "random", 0, 0] == -0.5


def test_resumed_is_uninterrupted(probed, spec_of, measured):
    path = spec_of()
    measured(path, limit=2)
    store = measured(path)
    assert_same(store, probed)
    assert [one["texts"] for one in store.runs()] == [2, 4]


def test_each_probe_is_committed_by_itself(spec_of, measured, monkeypatch):
    """Ctrl-C in the third probe, twice, keeps the first two."""
    real, calls = measure.probe, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(measure, "probe", interrupted)
    monkeypatch.setattr("memcram.study.worker._GROUP_SECONDS", 1e9)
    path = spec_of(("vectors = [1, 2]", "vectors = [1]"))
    with pytest.raises(Interrupted, match="2 of 3 texts"):
        measured(path)
    assert len(Store(path.with_suffix(".study")).rows()) == 2


def test_ids_depend_on_the_probe_but_not_on_more_samples(spec_of, tiny_lm):
    def ids(*changes):
        return [task.id for task in expand(read_spec(spec_of(*changes)), 0, tiny_lm)]

    first = ids()
    assert len(set(first)) == 6
    assert set(first) < set(ids(("samples = 3", "samples = 5")))
    for change in (
        ("continuation = 6", "continuation = 7"),
        ("others = 2", "others = 1"),
        ('items = "items.jsonl"\n', ""),
    ):
        assert not set(first) & set(ids(change))


def test_defaults_need_no_table(spec_of):
    text = spec_of().read_text()
    table = text[text.index("[probe]") : text.index("[[texts]]")]
    study = read_spec(spec_of((table, ""), ("samples = 3", "samples = 5"))).study
    assert study.of_kind("probe") is None


def test_export_has_one_measure_per_line(probed, tmp_path, capsys):
    assert run(["study", "export", str(probed.folder), "-o", str(tmp_path / "p"), "--json"]) == 0
    files = [Path(name).name for name in json.loads(capsys.readouterr().out)["files"]]
    assert files == ["p.parquet", "p.csv", "p.probe.parquet", "p.probe.csv"]
    with (tmp_path / "p.probe.csv").open() as lines:
        found = list(csv.DictReader(lines))
    assert {one["measure"] for one in found} == set(MEASURES)
    assert {one["task"] for one in found} == {row.task for row in probed.rows()}
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(tmp_path / "p.probe.parquet")
    assert table.num_rows == len(found)
    assert [repr(value) for value in table["value"].to_pylist()] == [one["value"] for one in found]
    assert run(["study", "export", str(probed.folder), "-o", str(tmp_path / "p")]) == 2


def test_other_kinds_have_no_probe(place, measured, tmp_path):
    store = measured(place / "small.toml", limit=1)
    [row] = store.rows()
    assert store.record(row.task).probe_nats is None
    assert table_of([store]) == []


MISTAKES = {
    "visible tokens": (("steps", "prefix_tokens = 2\nsteps"), "prefix_tokens: got 2, allowed: 0"),
    "too few texts": (("samples = 3", "samples = 2"), "samples: got 2, allowed: 3 or more with 2"),
    "no continuation": (("continuation = 6", "continuation = 1"), "probe.continuation: got 1, all"),
    "no others": (("others = 2", "others = 0"), "probe.others: got 0, allowed:"),
    "an unknown key": (
        ("others = 2", "other = 2"),
        "probe.other: unknown key, allowed: continuation, others, items",
    ),
    "no file": (("items.jsonl", "none.jsonl"), "probe.items: "),
    "a key of another kind": (('"probe"', '"horizon"'), "probe: unknown to the kind 'horizon'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_error_names_the_key(mistake, spec_of):
    change, says = MISTAKES[mistake]
    path = spec_of(change)
    with pytest.raises(UsageError) as raised:
        read_spec(path)
    assert str(raised.value).startswith(f"{path}: {says}")
    assert "\n" not in str(raised.value)


def test_number_instead_of_a_table_is_refused(spec_of):
    path = spec_of()
    start, _, end = path.read_text().partition("[probe]")
    path.write_text(f"{start}probe = 3\n{end[end.index('[[texts]]') :]}")
    with pytest.raises(UsageError, match="probe: got 3, allowed:") as raised:
        read_spec(path)
    assert "\n" not in str(raised.value)


LATER = {
    "a continuation beyond the positions": (
        ("continuation = 6", "continuation = 125"),
        r"lengths\[0\]: got 4 tokens .*, allowed: at most 3 ",
    ),
    "items beyond the positions": (
        ('items = "items.jsonl"', 'items = "long.jsonl"'),
        r"probe.items: item 1 has \d+ tokens, allowed: at most 127 for the model",
    ),
}


@pytest.mark.parametrize("mistake", LATER)
def test_errors_that_depend_on_the_model(mistake, spec_of, tiny_lm, tmp_path):
    change, says = LATER[mistake]
    item = {"ctx": "a" * 200, "endings": ["b", "c"], "label": 0}
    (tmp_path / "long.jsonl").write_text(json.dumps(item))
    with pytest.raises(UsageError, match=says) as raised:
        expand(read_spec(spec_of(change)), 0, tiny_lm)
    assert "\n" not in str(raised.value)


def test_model_without_attention_fails_before_anything_is_crammed(spec_of, measured, monkeypatch):
    def refuse(lm):
        raise ModelError(f"{lm.identity.id}: Mamba has no attention")

    monkeypatch.setattr("memcram.study.probe.check_attention", refuse)
    with pytest.raises(ModelError, match="has no attention"):
        measured(spec_of())
