"""Copy the state of a text in progress, and continue from it as if nothing had happened."""

from collections.abc import Mapping

import torch
from torch import Tensor

from memcram.engine.batch import Slot
from memcram.engine.state import TextState, named_tensors, with_tensors

Checkpoint = Mapping[str, Tensor]
"""State of one text in progress: tensors on the CPU, by name."""

# Computed from the request, so not kept.
_CONSTANT = ("ids", "embeds")
_STATE = "state/"


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
        ValueError: the checkpoint has other tensors or shapes, so it is of another recipe or text.
    """
    old = named_tensors(slot.state)
    new = {
        name: old[name] if name in _CONSTANT else _like(old[name], checkpoint.get(_STATE + name))
        for name in old
    }
    counters = checkpoint["counters"].tolist() if "counters" in checkpoint else []
    if len(counters) != 6 or (slot.path is None) != ("path" not in checkpoint):
        raise ValueError("the checkpoint has other counters, or another path")
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


def _like(old: Tensor, new: Tensor | None) -> Tensor:
    if new is None or new.shape != old.shape or new.dtype != old.dtype:
        raise ValueError(f"got {None if new is None else tuple(new.shape)}, not {tuple(old.shape)}")
    return new.to(old.device, copy=True)
