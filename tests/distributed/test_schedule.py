"""Dividing work among workers, and what is lost with one of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memcram.distributed import schedule
from memcram.distributed.schedule import Item, Schedule
from memcram.errors import ModelError


@st.composite
def work(draw):
    """Items of several lots, some in units, and a number of workers."""
    lots = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    items = []
    for lot, count in enumerate(lots):
        size = draw(st.sampled_from([None, None, 1, 7]))
        for i in range(count):
            cost = draw(st.integers(1, 1000))
            items.append(Item((lot, i), cost, lot, None if size is None else i // size))
    return items, draw(st.integers(1, 5))


@given(work(), st.integers(0, 2**32))
def test_every_item_is_finished_once_whoever_is_lost(case, seed):
    items, workers = case
    draw = random.Random(seed)
    plan = Schedule(items, workers)
    finished, holds, losses = [], {}, 0
    while not plan.is_finished:
        worker = draw.randrange(workers)
        if worker not in holds:
            batch = plan.take(worker)
            if not batch:
                continue
            assert len({item.lot for item in batch}) == 1
            for unit in {item.unit for item in batch} - {None}:
                # What is left of a unit stays together.
                open_ones = {i.key for i in items if (i.lot, i.unit) == (batch[0].lot, unit)}
                assert open_ones - {key for key, _ in finished} <= {item.key for item in batch}
            assert len({item.key for item in batch}) == len(batch)
            holds[worker] = [item.key for item in batch]
        else:
            some = draw.sample(holds[worker], draw.randrange(len(holds[worker]) + 1))
            if any(item.unit is not None for item in items):
                some = holds[worker]
            plan.finish(worker, some)
            finished += [(key, worker) for key in some]
            left = [key for key in holds[worker] if key not in some]
            if some and left and losses < 20 and draw.random() < 0.5:
                losses += 1
                plan.give_back(worker)
                del holds[worker]
            elif left:
                holds[worker] = left
            else:
                plan.give_back(worker)
                del holds[worker]
    assert sorted(key for key, _ in finished) == sorted(item.key for item in items)


def test_batches_shrink_so_that_workers_finish_together():
    plan = Schedule([Item(i, 10) for i in range(400)], 2)
    sizes = [len(plan.take(0)) for _ in range(20)]
    assert sizes[:3] == [100, 75, 57]  # half of one of two shares of what is waiting
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 400
    assert schedule._MIN_BATCH in sizes


def test_little_work_is_divided_too():
    plan = Schedule([Item(i, 10) for i in range(8)], 2)
    assert [len(plan.take(worker)) for worker in (0, 1)] == [4, 2]


def test_expensive_items_come_first_but_lots_stay_in_order():
    items = [Item("a1", 1, "a"), Item("a9", 9, "a"), Item("b99", 99, "b")]
    plan = Schedule(items, 1)
    assert [item.key for item in plan.take(0)] == ["a9", "a1"]
    assert [item.key for item in plan.take(1)] == ["b99"]


def test_a_unit_is_never_separated():
    items = [Item(i, 100 - i, "a", unit=i % 4) for i in range(100)]
    plan = Schedule(items, 4)
    while batch := plan.take(0):
        assert len(batch) % 25 == 0
        plan.finish(0, [item.key for item in batch])
    assert plan.is_finished


def test_lost_work_goes_to_others_first_and_not_forever():
    plan = Schedule([Item(i, 1) for i in range(40)], 1)
    batch = [item.key for item in plan.take(0)]
    plan.give_back(0)
    assert [item.key for item in plan.take(1)][: len(batch)] == batch
    plan.give_back(1)
    plan.take(0)
    with pytest.raises(ModelError, match="3 workers were lost with the same work"):
        plan.give_back(0)


def test_losses_between_which_work_is_finished_are_not_counted():
    """As on machines that are taken away again and again."""
    plan = Schedule([Item(i, 1) for i in range(20)], 1)
    for turn in range(20):
        assert len(plan.take(0)) == min(schedule._MIN_BATCH, 20 - turn)
        plan.finish(0, [turn])
        plan.give_back(0)
    assert plan.is_finished


def test_losing_an_idle_worker_changes_nothing():
    plan = Schedule([Item("a", 1)], 2)
    plan.give_back(1)
    [item] = plan.take(0)
    plan.finish(0, [item.key])
    plan.give_back(0)
    assert plan.is_finished
    assert plan.take(1) == []
