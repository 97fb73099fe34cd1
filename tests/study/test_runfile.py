"""Progress of a text: recorded, or estimated from the steps of an older record."""

from dataclasses import replace

import pytest
import torch

import plausible
from memcram.study.runfile import progress_of


@pytest.fixture(scope="module")
def record():
    _, records = plausible.study(samples=1, vectors=(1,), models=("pocket",))
    learned = torch.tensor([0, 3, 5, -1])
    curve = torch.tensor([[0.0, 2.0, 1.0], [10.0, 1.0, 0.5], [20.0, 4.0, 0.3]])
    return replace(next(iter(records.values())), learned_step=learned, curve=curve.double())


def test_recorded_rises_are_taken_as_they_are(record):
    rises = torch.tensor([[0, 9, 2], [7, 80, 5]])
    found = progress_of(replace(record, rises=rises), 20, 200)
    assert not found.estimated
    assert found.points.tolist() == [[9, 2], [80, 5]]


def test_an_estimate_rises_and_ends_at_the_cost_of_the_text(record):
    found = progress_of(record, steps=25, token_steps=210)
    assert found.estimated
    # (2 + 6) · 10 positions, again with the 2 held before, then (4 + 6) · 5: 210 in all.
    assert found.points.tolist() == [[0, 2], [80, 2], [160, 4], [210, 4]]


def test_a_text_without_measurements_has_no_points(record):
    assert not len(progress_of(replace(record, curve=torch.empty(0, 3)), 0, 0).points)
