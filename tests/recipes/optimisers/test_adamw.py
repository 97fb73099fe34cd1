"""Per-slot AdamW is torch.optim.AdamW, whenever each slot was filled."""

import pytest
import torch

from memcram.recipes.optimisers.adamw import AdamW, Moments

SETTINGS = [
    AdamW(),
    AdamW(lr=0.01, betas=(0.9, 0.999)),
    AdamW(lr=0.1, betas=(0.9, 0.9), weight_decay=0.01),
    AdamW(lr=1.0, betas=(0.5, 0.95), eps=1e-3, weight_decay=0.2),
    AdamW(lr=0.3, betas=(0.0, 0.99)),
]


@pytest.mark.parametrize("ours", SETTINGS, ids=repr)
@pytest.mark.parametrize("filled_at", [(0, 0, 0), (0, 4, 17)], ids=["together", "apart"])
def test_rows_follow_torch(ours, filled_at):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 2, 5, dtype=torch.float64, generator=generator)
    rows = start.clone()
    state = ours.init(rows)
    clocks = torch.zeros(3, dtype=torch.float64)
    theirs = [torch.nn.Parameter(row.clone()) for row in start]
    optimisers = [
        torch.optim.AdamW(
            [p], lr=ours.lr, betas=ours.betas, eps=ours.eps, weight_decay=ours.weight_decay
        )
        for p in theirs
    ]
    for turn in range(40):
        active = [i for i, at in enumerate(filled_at) if turn >= at]
        gradient = torch.randn(3, 2, 5, dtype=torch.float64, generator=generator)
        part = rows[active]
        part_state = Moments(state.m[active], state.v[active])
        clocks[active] += 1
        ours.step(part, gradient[active], part_state, clocks[active])
        rows[active] = part
        state.m[active], state.v[active] = part_state.m, part_state.v
        for i in active:
            theirs[i].grad = gradient[i].clone()
            optimisers[i].step()
    assert (rows - start).abs().min() > 0
    torch.testing.assert_close(rows, torch.stack([p.detach() for p in theirs]), rtol=0, atol=1e-12)


def test_a_slot_with_no_gradient_keeps_its_neighbours_apart():
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    ours = AdamW(lr=0.5)
    gradient = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    state = ours.init(rows)
    ours.step(rows, gradient, state, torch.ones(2))
    # the first Adam step has length lr against the gradient's sign
    torch.testing.assert_close(rows, torch.tensor([[0.5, 2.5], [3.0, 4.0]]))
