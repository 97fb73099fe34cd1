"""Copy the state of a text in progress, and continue from it exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memcram.engine.batch import Batch, Slot
from memcram.engine.state import TextState, named_tensors, unstack, with_tensors

Checkpoint = Mapping[str, Tensor]
"""State of one text in progress: tensors on the CPU, by name."""

# Computed from the request, so not kept.
_CONSTANT = ("ids", "embeds")
_STATE = "state/"


def checkpoints_of(
    batch: Batch, waiting: Sequence[Slot], shared: bool
) -> dict[Any, dict[str, Tensor]]:
    """Copy the state of every text that has begun, by key.

    Args:
        batch: texts that are being optimised.
        waiting: texts that are not; some have begun.
        shared: whether the texts of a group share parameters; those of groups are left out then.
    """
    states = [(slot, unstack(batch.rows, i, slot.state)) for i, slot in enumerate(batch.slots)]
    states += [(slot, slot.state) for slot in waiting if slot.has_begun]
    return {
        slot.request.key: checkpoint_of(slot, state)
        for slot, state in states
        if not shared or slot.request.group is None
    }


def checkpoint_of(slot: Slot, state: TextState) -> dict[str, Tensor]:
    """Copy the state of a slot between two turns.

    Args:
        slot: the text.
        state: its current state, unstacked.
    """
    counters = [slot.accounting.n_tokens, slot.step, slot.clock, slot.token_steps, slot.n_noted]
    found = {
        "counters": torch.tensor([*counters, slot.curve.stride]),
        "curve_numbers": torch.tensor([*slot.curve.kept], dtype=torch.long),
        "curve": torch.tensor([*slot.curve.kept.values()], dtype=torch.float64).reshape(-1, 3),
        "rises": torch.tensor(slot.rises, dtype=torch.long).reshape(-1, 3),
    }
    if slot.path is not None and slot.path.kept:
        found["path_stride"] = torch.tensor(slot.path.stride)
        found["path_steps"] = torch.tensor([*slot.path.kept])
        found["path"] = torch.stack([*slot.path.kept.values()]).cpu()
    for name, tensor in named_tensors(state).items():
        if name not in _CONSTANT:
            found[_STATE + name] = tensor.detach().to("cpu", copy=True)
    return found


def restore(slot: Slot, checkpoint: Checkpoint) -> None:
    """Continue a slot, which has an initial state, from a checkpoint of the same text.

    Raises:
        ValueError: the checkpoint has other tensors, shapes or ranges, so it is of another recipe
            or text.
    """
    old = named_tensors(slot.state)
    new = {
        name: old[name] if name in _CONSTANT else _like(old[name], checkpoint.get(_STATE + name))
        for name in old
    }
    _check_history(slot, checkpoint)
    counters: list[int] = checkpoint["counters"].tolist()
    least, n = slot.accounting.tokens.start + 1, len(slot.request.ids)
    if not least <= counters[0] <= n or min(counters) < 0 or counters[-1] < 1:
        raise ValueError(f"got the counters {counters}")
    slot.state = with_tensors(slot.state, new)
    n_tokens, slot.step, slot.clock, slot.token_steps, slot.n_noted, slot.curve.stride = counters
    slot.target(n_tokens)
    numbers, points = checkpoint["curve_numbers"].tolist(), checkpoint["curve"].tolist()
    slot.curve.kept = {
        n: (s, held, loss) for n, (s, held, loss) in zip(numbers, points, strict=True)
    }
    slot.rises = [(step, spent, held) for step, spent, held in checkpoint["rises"].tolist()]
    if slot.path is not None:
        slot.path.stride = int(checkpoint["path_stride"])
        vectors = checkpoint["path"].to(slot.state.embeds.device)
        slot.path.kept = dict(zip(checkpoint["path_steps"].tolist(), vectors, strict=True))


def _check_history(slot: Slot, checkpoint: Checkpoint) -> None:
    """Refuse counters, a curve, rises or a path of other shapes or types."""
    _check(checkpoint, "counters", (6,), torch.long)
    points = _check(checkpoint, "curve_numbers", (None,), torch.long)
    _check(checkpoint, "curve", (len(points), 3), torch.float64)
    _check(checkpoint, "rises", (None, 3), torch.long)
    if slot.path is None:
        return
    steps, width = _check(checkpoint, "path_steps", (None,), torch.long), slot.state.embeds.shape[1]
    vectors = _check(checkpoint, "path", (len(steps), slot.request.vectors, width), None)
    stride = int(_check(checkpoint, "path_stride", (), torch.long))
    if not vectors.is_floating_point() or stride < 1:
        raise ValueError("the checkpoint has another path")


def _check(
    checkpoint: Checkpoint, name: str, shape: tuple[int | None, ...], dtype: torch.dtype | None
) -> Tensor:
    """Return a tensor of a checkpoint; None allows any length or type.

    Raises:
        ValueError: it is missing, or has another shape or type.
    """
    found = checkpoint.get(name)
    same = found is not None and found.dim() == len(shape) and dtype in (None, found.dtype)
    if (
        found is None
        or not same
        or any(wanted not in (None, got) for wanted, got in zip(shape, found.shape, strict=True))
    ):
        raise ValueError(f"the checkpoint has another {name}, or none")
    return found


def _like(old: Tensor, new: Tensor | None) -> Tensor:
    if new is None or new.shape != old.shape or new.dtype != old.dtype:
        raise ValueError(f"got {None if new is None else tuple(new.shape)}, not {tuple(old.shape)}")
    return new.to(old.device, copy=True)
