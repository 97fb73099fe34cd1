"""Define the device state of one text, and stack states into batches.

Dataclasses of tensors, and dictionaries of them, are treated as trees: stacking, padding and
selecting rows apply to every tensor in them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from memcram.recipes.optimisers.base import Optimiser

Tree = TypeVar("Tree")


@dataclass
class Trained:
    """One trained parameter.

    Attributes:
        value: as the parametrisation defines it.
        optimiser: dataclass of tensors that the optimiser keeps for it.
    """

    value: Tensor
    optimiser: Any


@dataclass
class Best:
    """The best vectors so far, and their measurement."""

    parameters: dict[str, Tensor]  # values by name
    step: Tensor  # () optimiser steps before them
    min_margin: Tensor  # () smallest margin in logits, the second criterion
    margins: Tensor  # (n,) in logits
    correct_since: Tensor  # (n,) step since which each token is correct, −1 if it is not


@dataclass
class TextState:
    """State of one text; in a batch every tensor has a leading slot axis and is right-padded."""

    ids: Tensor  # (n,) token ids
    embeds: Tensor  # (input length, width) frozen inputs, zeros in place of [mem]
    parameters: dict[str, Trained]  # by the names of the parametrisation
    best: Best
    step: Tensor  # () optimiser steps done
    max_held: Tensor  # () most tokens held so far, −1 before the first measurement
    max_held_step: Tensor  # () step at which max_held was first reached
    min_loss: Tensor  # () smallest mean loss so far
    correct_since: Tensor  # (n,) as in `Best`, at the current vectors


def initial_state(
    ids: Tensor,
    embeds: Tensor,
    parameters: dict[str, Tensor],
    optimiser: Optimiser,
    dtype: torch.dtype,
) -> TextState:
    """Create the state of a text before its first measurement.

    Args:
        ids: (n,) token ids.
        embeds: (input length, width) frozen inputs.
        parameters: initial values by name.
        optimiser: makes its own state for each parameter.
        dtype: of the measurements.
    """
    zero = torch.zeros((), dtype=dtype, device=ids.device)
    never = torch.full(ids.shape, -1.0, dtype=dtype, device=ids.device)
    return TextState(
        ids=ids,
        embeds=embeds,
        parameters={
            name: Trained(value, optimiser.init(value)) for name, value in parameters.items()
        },
        best=Best(
            parameters=parameters,
            step=zero,
            min_margin=torch.full_like(zero, float("-inf")),
            margins=torch.full_like(never, float("-inf")),
            correct_since=never,
        ),
        step=zero,
        max_held=torch.full_like(zero, -1.0),
        max_held_step=zero,
        min_loss=torch.full_like(zero, float("inf")),
        correct_since=never,
    )


def tree_map(function: Callable[..., Tensor], *trees: Any) -> Any:
    """Apply `function` to corresponding tensors of trees with the same structure."""
    first = trees[0]
    if isinstance(first, Tensor):
        return function(*trees)
    if isinstance(first, dict):
        return {key: tree_map(function, *(tree[key] for tree in trees)) for key in first}
    names = [field.name for field in fields(first)]
    return type(first)(
        **{name: tree_map(function, *(getattr(tree, name) for tree in trees)) for name in names}
    )


def named_tensors(tree: Any, name: str = "") -> dict[str, Tensor]:
    """Return the tensors of a tree by the names that lead to each, such as `best/step`."""
    if isinstance(tree, Tensor):
        return {name: tree}
    is_dict = isinstance(tree, dict)
    parts = tree if is_dict else {field.name: getattr(tree, field.name) for field in fields(tree)}
    found: dict[str, Tensor] = {}
    for key, part in parts.items():
        found |= named_tensors(part, f"{name}/{key}" if name else key)
    return found


def with_tensors(tree: Tree, tensors: Mapping[str, Tensor]) -> Tree:
    """Return a tree of the same structure with these tensors, one for each of `named_tensors`."""
    remaining = iter([tensors[name] for name in named_tensors(tree)])
    result: Tree = tree_map(lambda _: next(remaining), tree)
    return result


def stack(states: Sequence[TextState]) -> TextState:
    """Stack states along a new slot axis; tensors are padded to the longest first axis."""

    def stacked(*rows: Tensor) -> Tensor:
        if rows[0].dim() == 0:
            return torch.stack(rows)
        return pad_sequence(list(rows), batch_first=True)

    result: TextState = tree_map(stacked, *states)
    return result


def unstack(stacked: Tree, row: int, like: Tree) -> Tree:
    """Copy one row, without padding: every tensor gets the size it has in `like`."""
    result: Tree = tree_map(lambda rows, old: rows[row][_within(old)].clone(), stacked, like)
    return result


def put(tree: Tree, stacked: Tree, row: int) -> None:
    """Overwrite one row of `stacked` with `tree`, in place; its padding stays."""
    tree_map(lambda new, rows: rows[row][_within(new)].copy_(new), tree, stacked)


def where(mask: Tensor, tree: Tree, other: Tree) -> Tree:
    """Select rows of `tree` where `mask` (slot,) is true, rows of `other` elsewhere."""

    def chosen(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (a.dim() - 1)), a, b)

    result: Tree = tree_map(chosen, tree, other)
    return result


def _within(like: Tensor) -> tuple[slice, ...]:
    return tuple(slice(size) for size in like.shape)
