"""AdamW with primal averaging: what it reduces to, and why it is used."""

import pytest
import torch

from memcram.errors import UsageError
from memcram.recipes.optimisers.adamw import AdamW
from memcram.recipes.optimisers.averaged_adamw import AveragedAdamW


def run(optimiser, gradient_at, steps, start):
    rows, state = start.clone(), optimiser.init(start)
    for t in range(1, steps + 1):
        optimiser.step(rows, gradient_at(rows), state, [t] * len(rows))
    return rows, state


def valley(rows):
    """Gradient of a narrow valley: curvatures 100 and 1."""
    return rows * torch.tensor([100.0, 1.0], dtype=rows.dtype)


@pytest.fixture
def start():
    return torch.tensor([[3.0, -2.0], [1.0, 4.0]], dtype=torch.float64)


def test_without_averaging_it_is_adamw(start):
    plain = AdamW(lr=0.1, betas=(0.5, 0.9), weight_decay=0.01)
    same = AveragedAdamW(
        lr=0.1, betas=(0.5, 0.9), weight_decay=0.01, averaging=0.0, interpolation=0.0
    )
    ours, theirs = run(same, valley, 30, start)[0], run(plain, valley, 30, start)[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_iterates_follow_the_published_rule(start):
    ours = AveragedAdamW(lr=0.2, betas=(0.0, 0.5), averaging=0.75, interpolation=0.6)
    rows, _ = run(ours, valley, 12, start)
    z = x = y = start.clone()
    v = torch.zeros_like(start)
    for t in range(1, 13):
        g = valley(y)
        v = 0.5 * v + 0.5 * g * g
        z = z - 0.2 * g / ((v / (1 - 0.5**t)).sqrt() + 1e-8)
        x = 0.75 * x + 0.25 * z
        y = 0.6 * x + 0.4 * z
    torch.testing.assert_close(rows, y, rtol=0, atol=1e-12)


def test_rows_do_not_depend_on_each_other(start):
    ours = AveragedAdamW(lr=0.2)
    together, _ = run(ours, valley, 20, start)
    alone = [run(ours, valley, 20, row[None])[0] for row in start]
    assert torch.equal(together, torch.cat(alone))


def test_a_large_step_oscillates_less(start):
    left, _ = run(AveragedAdamW(lr=0.5), valley, 200, start)
    plain, _ = run(AdamW(lr=0.5, betas=(0.0, 0.8)), valley, 200, start)
    assert left.abs().max() < 0.5 * plain.abs().max()


@pytest.mark.parametrize("field", ["averaging", "interpolation"])
def test_an_average_without_news_is_refused(field):
    with pytest.raises(UsageError, match=field):
        AveragedAdamW(**{field: 1.0})
