"""Keep the best vectors of each text: what is saved is what was measured.

Everything stays on the device, without synchronising with the host.
"""

import torch
from torch import Tensor

from memcram.engine.batch import Batch, Slot
from memcram.engine.state import Best, put, unstack, where
from memcram.recipes.optimisers.base import Optimiser
from memcram.recipes.strategies import Strategy


@torch.no_grad()
def keep_best(batch: Batch, strategy: Strategy, loss: Tensor, margin: Tensor) -> Tensor:
    """Copy the vectors just measured wherever they are the best so far.

    More tokens held is better; among equals, a larger minimum margin of those held.

    Args:
        batch: its state is updated.
        strategy: says which tokens count as held.
        loss, margin: (counted,) of the measurement.

    Returns:
        (slot, 5): tokens held, maximum tokens held so far, the step at which that was first
        reached, minimum margin and mean loss over the tokens of the loss.
    """
    rows = batch.rows
    dtype = rows.step.dtype
    table = batch.table(margin.to(dtype), float("inf"))  # (slot, token)
    since = torch.where(rows.correct_since < 0, rows.step[:, None], rows.correct_since)
    rows.correct_since = torch.where((table > 0) & batch.is_measured, since, -1.0)
    is_held = (table > strategy.held_margin) & batch.is_measured
    if strategy.keeps_prefix:
        is_held = (is_held | ~batch.is_measured).cumprod(1).bool() & batch.is_measured
    held = is_held.sum(1).to(dtype)
    smallest = table.masked_fill(~batch.in_loss, float("inf")).amin(1)
    criterion = smallest
    if strategy.keeps_prefix:
        criterion = table.masked_fill(~is_held, float("inf")).amin(1)
    is_more = held > rows.max_held
    is_better = is_more | ((held == rows.max_held) & (criterion > rows.best.min_margin))
    values = {name: one.value for name, one in rows.parameters.items()}
    measured = Best(values, rows.step, criterion, table, rows.correct_since)
    rows.best = where(is_better, measured, rows.best)
    rows.max_held = torch.where(is_more, held, rows.max_held)
    rows.max_held_step = torch.where(is_more, rows.step, rows.max_held_step)
    # One token after the other: a sum over the padded row would round by the longest batch-mate.
    mean = batch.table((loss * batch.weights).to(dtype), 0.0).cumsum(1)[:, -1]
    rows.min_loss = torch.fmin(rows.min_loss, mean)  # a loss that is not a number is not smaller
    return torch.stack([held, rows.max_held, rows.max_held_step, smallest, mean], 1)


def restore_best(batch: Batch, row: int, optimiser: Optimiser) -> None:
    """Reset one slot to its best vectors, with a fresh optimiser and full patience."""
    rows, slot = batch.rows, batch.slots[row]
    best = unstack(rows.best.parameters, row, slot.state.best.parameters)
    for name, value in best.items():
        put(value, rows.parameters[name].value, row)
        put(optimiser.init(value), rows.parameters[name].optimiser, row)
    slot.clock = 0
    rows.max_held_step[row] = rows.step[row]


def keep_path(batch: Batch, mem: Tensor) -> None:
    """Copy the `[mem]` just measured of each slot whose path includes this step.

    A step is measured twice if a stage ends without a step (`Progressive`), or if an iteration is
    repeated after running out of memory; the vectors are the same both times.

    Args:
        batch: the paths of its slots are updated.
        mem: (slot, K, width) that went into the model, right-padded.
    """
    for row, slot, path in batch.on_path:
        if path.wants(slot.step):
            path.keep(slot.step, mem[row, : slot.request.vectors].detach().clone())


def path_to(slot: Slot, mem: Tensor, best_step: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Steps (points,) and vectors (points, K, width) of a slot's path, on the CPU.

    The best vectors come last, even where later steps are in the path.

    Args:
        slot: None is returned twice if it has no path.
        mem: (K, width) the best vectors.
        best_step: their step.
    """
    if slot.path is None:
        return None, None
    others = {step: point for step, point in slot.path.kept.items() if step != best_step}
    points = torch.stack([*others.values(), mem])  # in one piece, so that the host waits once
    return torch.tensor([*others, best_step]), points.cpu()
