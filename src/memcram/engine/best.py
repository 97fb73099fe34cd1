"""What is copied aside at a measurement, and back: what is saved is what was measured.

Everything stays on the device: whether vectors are the best so far is never asked by the host.
"""

import torch
from torch import Tensor

from memcram.engine.batch import Batch, Slot
from memcram.recipes.optimisers.base import Optimiser
from memcram.recipes.strategies import Strategy

PARAMETER, BEST = "parameter.", "best."


def nothing_kept(
    parameters: dict[str, Tensor], n_tokens: int, master: torch.dtype
) -> dict[str, Tensor]:
    """The tensors by name of a slot that was not measured yet.

    Args:
        parameters: what is optimised, by name.
        n_tokens: tokens of the text.
        master: dtype of the measurements.
    """
    device = next(iter(parameters.values())).device
    zero = torch.zeros((), dtype=master, device=device)
    never = torch.full((n_tokens,), -1.0, dtype=master, device=device)
    return {
        "step": zero,
        "max_held": zero - 1,
        "max_held_step": zero,
        "min_loss": zero + float("inf"),
        "right_since": never,
        "best_step": zero,
        "best_margin": zero - float("inf"),
        "best_margins": torch.full_like(never, float("-inf")),
        "best_right_since": never,
        **{BEST + name: value.clone() for name, value in parameters.items()},
    }


@torch.no_grad()
def keep_best(batch: Batch, strategy: Strategy, loss: Tensor, margin: Tensor) -> Tensor:
    """Copy aside the vectors just measured, where they are the best so far.

    More tokens held is better; among equals, a larger smallest margin of those held.

    Args:
        batch: its rows are changed in place.
        strategy: says which tokens count as held.
        loss, margin: (counted,) of the measurement.

    Returns:
        (slot, 5): tokens held, most tokens held, the step that was first seen, smallest margin and
        mean loss over the tokens of the loss.
    """
    rows = batch.rows
    master = rows["best_margins"].dtype
    table = batch.table(margin.to(master), float("inf"))
    right = (table > strategy.held_margin) & batch.is_measured
    since = torch.where(rows["right_since"] < 0, rows["step"][:, None], rows["right_since"])
    rows["right_since"] = torch.where((table > 0) & batch.is_measured, since, -1.0)
    if strategy.keeps_prefix:
        right = (right | ~batch.is_measured).cumprod(1).bool() & batch.is_measured
    held = right.sum(1).to(master)
    smallest = table.masked_fill(~batch.in_loss, float("inf")).amin(1)
    kept = table.masked_fill(~right, float("inf")).amin(1) if strategy.keeps_prefix else smallest
    more = held > rows["max_held"]
    better = more | ((held == rows["max_held"]) & (kept > rows["best_margin"]))
    for name in [name for name in rows if name.startswith(PARAMETER)]:
        best = name.replace(PARAMETER, BEST, 1)
        wide = better.view(-1, *[1] * (rows[name].dim() - 1))
        rows[best] = torch.where(wide, rows[name], rows[best])
    for name, value in (("margins", table), ("right_since", rows["right_since"])):
        rows[f"best_{name}"] = torch.where(better[:, None], value, rows[f"best_{name}"])
    # One token after the other: a sum over the padded row would round by the longest batch-mate.
    mean = batch.table((loss * batch.weights).to(master), 0.0).cumsum(1)[:, -1]
    rows["min_loss"] = torch.minimum(rows["min_loss"], mean)
    rows["best_margin"] = torch.where(better, kept, rows["best_margin"])
    rows["max_held"] = torch.where(more, held, rows["max_held"])
    rows["best_step"] = torch.where(better, rows["step"], rows["best_step"])
    rows["max_held_step"] = torch.where(more, rows["step"], rows["max_held_step"])
    return torch.stack([held, rows["max_held"], rows["max_held_step"], smallest, mean], 1)


def restore_best(batch: Batch, row: int, optimiser: Optimiser) -> None:
    """Put one slot back to its best vectors, with a fresh optimiser; its patience begins anew."""
    rows, slot = batch.rows, batch.slots[row]
    for name in [name for name in rows if name.startswith(PARAMETER)]:
        rows[name][row] = rows[name.replace(PARAMETER, BEST, 1)][row]
        own = rows[name][row][tuple(slice(size) for size in slot.tensors[name].shape)]
        for key, fresh in optimiser.init(own).items():
            state = rows[name.replace(PARAMETER, f"{key}.", 1)][row]
            state[tuple(slice(size) for size in fresh.shape)] = fresh
    slot.clock = 0
    rows["max_held_step"][row] = rows["step"][row]


def keep_path(batch: Batch, mem: Tensor) -> None:
    """Copy aside the `[mem]` just measured of each slot whose path wants this step.

    A step is measured twice where a stage rests (`Progressive`), and where a turn is tried again
    after it ran out of memory; both times the vectors are the same.

    Args:
        batch: its slots' paths are changed in place.
        mem: (slot, K, width) that went into the model, right-padded.
    """
    for row, slot, path in batch.on_path:
        if path.wants(slot.step):
            path.keep(slot.step, mem[row, : slot.request.vectors].detach().clone())


def path_to(slot: Slot, mem: Tensor, best_step: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Steps (points,) and vectors (points, K, width) of a slot's path, on the CPU.

    The kept vectors come last, although later steps may stand before them.

    Args:
        slot: None comes back twice where its path was not asked for.
        mem: (K, width) the kept vectors.
        best_step: their step.
    """
    if slot.path is None:
        return None, None
    others = {step: point for step, point in slot.path.kept.items() if step != best_step}
    points = torch.stack([*others.values(), mem])  # in one piece, so that the host waits once
    return torch.tensor([*others, best_step]), points.cpu()
