"""A study whose texts follow visible tokens."""

import pytest
import torch

import small_texts
from memcram.errors import UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.study.grid import expand
from memcram.study.read import read_spec

BOOKS = """
[[texts]]
name = "b"
source = "books"
path = "books"
min_words = 240
max_words = 520
"""
PREFIX = ("steps = 8", "steps = 8\nprefix_tokens = 5")


def tasks(path, lm):
    return expand(read_spec(path), 0, lm)


def test_texts_begin_after_the_visible_tokens(place, write_spec, tiny_lm):
    plain = tasks(place / "small.toml", tiny_lm)
    after = tasks(write_spec(PREFIX, name="after.toml"), tiny_lm)
    assert {len(task.prefix) for task in plain} == {0}
    assert [len(task.ids) for task in after] == [len(task.ids) for task in plain]
    assert not {task.id for task in after} & {task.id for task in plain}
    for task in after:
        given = torch.cat([task.prefix, task.ids])
        assert torch.equal(given, task.sample.ids[: 5 + len(task.ids)])
        assert task.cost > next(t.cost for t in plain if len(t.ids) == len(task.ids))


def test_zero_is_no_setting(place, write_spec, tiny_lm):
    zero = write_spec(("steps = 8", "steps = 8\nprefix_tokens = 0"), name="zero.toml")
    ids = [[task.id for task in tasks(path, tiny_lm)] for path in (place / "small.toml", zero)]
    assert ids[0] == ids[1]


def test_columns_count_the_crammed_tokens_only(measured, write_spec, tiny_lm):
    store = measured(write_spec(PREFIX))
    rows = store.rows()
    assert len(rows) == 15
    for row in rows:
        record = store.record(row.task)
        assert row.layout == "mem+5 tokens"
        assert row.tokens == row.length == row.n_counted == len(record.ids) == len(record.mem_nats)
        assert row.utf8_bytes == len(tiny_lm.detokenize(record.ids.tolist()).encode())
        assert not record.lm_nats.isnan().any()
        assert row.lm_nats == pytest.approx(float(record.lm_nats[1:].double().sum()))


@pytest.mark.parametrize("kind", ['kind = "repeat"', 'kind = "context"\ncontexts = [3]'])
def test_ablations_keep_the_visible_tokens(measured, write_spec, kind, place):
    changes = [
        PREFIX,
        ("samples = 3", f"samples = 1\n{kind}"),
        ("vectors = [1, 2]", "vectors = [1]"),
    ]
    path = write_spec(*changes)
    text = path.read_text().split("[[texts]]")[0]
    (place / "books").mkdir()
    (place / "books" / "one.txt").write_text(small_texts.book("one", 60), encoding="utf-8")
    path.write_text(text + BOOKS)
    rows = measured(path).rows()
    assert {row.layout for row in rows} == {"mem+5 tokens"}
    assert len({row.condition for row in rows}) == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            ("lengths = [4, 9]", "lengths = [4, 123]"),
            "lengths[1]: got 123 tokens with 2 vectors, after 5 visible tokens, allowed: at most",
        ),
        (("_tokens = 5", "_tokens = -1"), "prefix_tokens: got -1, allowed: greater than or equal"),
    ],
)
def test_refused_with_the_key(measured, write_spec, change, problem):
    path = write_spec(PREFIX, change)
    with pytest.raises(UsageError) as caught:
        measured(path)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_horizon_without_room(measured, write_spec):
    path = write_spec(
        ("steps = 8", 'steps = 8\nprefix_tokens = 128\nkind = "horizon"'),
        ("lengths = [4, 9]\n", ""),
    )
    with pytest.raises(UsageError, match=r"prefix_tokens: got 128, allowed: 0 to 127$"):
        measured(path)


def test_text_that_begins_with_a_bos_has_no_prefix(measured, write_spec, monkeypatch):
    monkeypatch.setattr(FrozenLM, "adds_bos", True)
    path = write_spec(PREFIX, ("steps = 8", 'steps = 8\nrecipes = ["kuratov2025"]'))
    with pytest.raises(UsageError, match=r"prefix_tokens: got 5, but 'kuratov2025' begins"):
        measured(path)
