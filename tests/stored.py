"""When two stores hold the same."""

from dataclasses import asdict, fields

import torch


def settled(row):
    """A row as a dictionary, without how long it took."""
    return {name: value for name, value in asdict(row).items() if name != "seconds"}


def assert_same(one, other):
    """The same rows in the same order, and the same tensors behind each."""
    assert [settled(row) for row in one.rows()] == [settled(row) for row in other.rows()]
    for row in one.rows():
        mine, its = one.record(row.task), other.record(row.task)
        for field in fields(mine):
            a, b = getattr(mine, field.name), getattr(its, field.name)
            if a is None or b is None:
                assert a is b, field.name
                continue
            assert a.dtype == b.dtype
            assert torch.equal(torch.nan_to_num(a, -7.0), torch.nan_to_num(b, -7.0)), field.name
