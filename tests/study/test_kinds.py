"""A kind of study is one row of a table: nothing else knows its name or its key."""

from typing import Annotated

import pytest
from pydantic import Field

from memcram.errors import UsageError
from memcram.study.conditions import Condition
from memcram.study.grid import expand
from memcram.study.kinds import KINDS, Kind
from memcram.study.read import read_spec


def repetitions(counts):
    return [Condition(f"times={n}", times=n) for n in counts]


@pytest.fixture
def dummy(monkeypatch):
    """The kind `dummy`, whose key `repetitions` says how often each text is repeated."""
    kind = Kind(
        finds_length=False,
        key="repetitions",
        key_type=Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)],
        conditions=repetitions,
    )
    monkeypatch.setitem(KINDS, "dummy", kind)
    return 'kind = "dummy"\nrepetitions = [1, 3]\nlengths'


def test_new_kind_expands_to_tasks(dummy, write_spec, tiny_lm):
    path = write_spec(("lengths = [4, 9]", f"{dummy} = [4, 9]"))
    tasks = expand(read_spec(path), 0, tiny_lm)
    assert len(tasks) == 2 * 15  # twice the tasks of the spec without the kind
    assert len({task.id for task in tasks}) == 2 * 15
    once, thrice = ([t for t in tasks if t.condition == f"times={n}"] for n in (1, 3))
    for one, three in zip(once, thrice, strict=True):
        assert one.ids.tolist() * 3 == three.ids.tolist()
        assert (one.is_prefix, three.is_prefix) == (True, False)


def test_new_kind_runs(dummy, write_spec, measured):
    path = write_spec(("lengths = [4, 9]", f"{dummy} = [4]"), ("samples = 3", "samples = 1"))
    rows = measured(path, limit=2).rows()
    assert [(row.kind, row.condition, row.tokens) for row in rows] == [
        ("dummy", "times=1", 4),
        ("dummy", "times=3", 12),
    ]


MISTAKES = {
    "no key": (
        ("repetitions = [1, 3]\n", ""),
        "kind: got 'dummy', which needs the key repetitions",
    ),
    "key of another kind": (
        ('"dummy"', '"capacity"'),
        "repetitions: unknown to the kind 'capacity'",
    ),
    "wrong value": (("[1, 3]", "[1, 0]"), "repetitions[1]: got 0, allowed: greater than"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_key_of_new_kind_is_checked(dummy, write_spec, mistake):
    change, says = MISTAKES[mistake]
    path = write_spec(("lengths =", f"{dummy} ="), change)
    with pytest.raises(UsageError) as caught:
        read_spec(path)
    assert str(caught.value).startswith(f"{path}: {says}")


def test_key_of_a_removed_kind_is_unknown(write_spec):
    """The dummy's key is accepted only while the table has its row."""
    with pytest.raises(UsageError, match="repetitions: unknown key"):
        read_spec(write_spec(("lengths =", "repetitions = [1]\nlengths =")))
