"""Compute the measures of a probe from the tensors of its row, one number per line of a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.study.kinds import KINDS
from memcram.study.probe_record import ATTENDED, CONTEXTS, CUTS, ITEM_CONTEXTS
from memcram.study.results import ProbeValue, ResultRow, TokenRecord
from memcram.study.store import Store

MEASURES = {
    "true_nats": "−log p per token of the true continuation, over t₂ … t_C",
    "other_nats": "the same of other texts' continuations, their mean",
    "advantage": "other_nats − true_nats",
    "advantage_over_none": "advantage − that with nothing before the continuation",
    "wins_over_none": "fraction of the other continuations that lose more over nothing, or gain "
    "less, than the true one; 0.5 if the context says nothing about it",
    "attention": "attention to the vectors of one head of one layer",
    "attention_mean": "attention to the vectors, mean over all heads and layers",
    "correct": "fraction of the passage's counted tokens that stay correct without attention",
    "nats": "−log p per counted token without attention",
    "items": "fraction of the items whose answer is the most likely choice",
    "items_by_length": "the same by −log p per character",
    "items_change": "items − that with nothing before the items",
    "items_by_length_change": "the same by −log p per character",
}
"""Measures of a probe, in the order of the table; all nats are natural logarithms."""


@dataclass(frozen=True)
class Value:
    """One number of a probe.

    Attributes:
        measure: of `MEASURES`.
        context: what precedes (`CONTEXTS`, `ATTENDED`, `ITEM_CONTEXTS`) or where attention is cut
            (`CUTS`).
        layer, head: from 1; 0 where the number is not about one. With `first`, the last layer of
            those that are cut.
        value: the number.
    """

    measure: str
    context: str
    layer: int
    head: int
    value: float


def probe_values(record: TokenRecord, n_counted: int) -> Iterator[Value]:
    """Compute the measures of one row; nothing for a row without a probe.

    Args:
        record: its token record.
        n_counted: tokens of the passage in the loss.
    """
    nats, attention, cuts = record.probe_nats, record.probe_attention, record.probe_cuts
    if nats is None or attention is None or cuts is None:
        return
    yield from _continuations(nats)
    for context, layers in zip(ATTENDED, attention.double(), strict=True):
        yield Value("attention_mean", context, 0, 0, layers.mean().item())
        for layer, heads in enumerate(layers.tolist(), 1):
            for head, mass in enumerate(heads, 1):
                yield Value("attention", context, layer, head, mass)
    for context, cases in zip(CUTS, cuts.double().tolist(), strict=True):
        for layer, (correct, mean) in enumerate(cases):
            yield Value("correct", context, layer, 0, correct / n_counted)
            yield Value("nats", context, layer, 0, mean)
    if record.probe_item_nats is not None and record.probe_items is not None:
        yield from _items(record.probe_item_nats.double(), record.probe_items)


def table_of(stores: Sequence[Store]) -> list[ProbeValue]:
    """Return the measures of all probed rows of several stores; a task in two counts once."""
    rows: dict[str, tuple[ResultRow, TokenRecord]] = {}
    for store in stores:
        for row in store.rows():
            if row.task not in rows and row.kind in KINDS and KINDS[row.kind].probes:
                rows[row.task] = row, store.record(row.task)
    return [
        ProbeValue(
            row.task,
            row.model,
            row.recipe,
            row.source,
            row.text_id,
            row.vectors,
            row.tokens,
            row.exact,
            one.measure,
            one.context,
            one.layer,
            one.head,
            one.value,
        )
        for row, record in rows.values()
        for one in probe_values(record, row.n_counted)
    ]


def _continuations(nats: Tensor) -> Iterator[Value]:
    per_token = nats[:, :, 1:].double().mean(-1)  # (contexts, 1 + others)
    true, other = per_token[:, 0], per_token[:, 1:].mean(1)
    advantage = other - true
    none = CONTEXTS.index("none")
    over = advantage - advantage[none]
    lost = per_token - per_token[none]
    # Ranks, because a vector that breaks the model makes a few continuations very unlikely.
    wins = (lost[:, 1:] > lost[:, :1]).double() + (lost[:, 1:] == lost[:, :1]).double() / 2
    columns = {"true_nats": true, "other_nats": other, "advantage": advantage}
    for measure, values in columns.items():
        for context, value in zip(CONTEXTS, values.tolist(), strict=True):
            yield Value(measure, context, 0, 0, value)
    for measure, values in (("advantage_over_none", over), ("wins_over_none", wins.mean(1))):
        for context, value in zip(CONTEXTS, values.tolist(), strict=True):
            if context != "none":
                yield Value(measure, context, 0, 0, value)


def _items(nats: Tensor, items: Tensor) -> Iterator[Value]:
    answers, characters = items[:, 0], items[:, 1:]
    lengths = characters.clamp(min=1)
    for measure, scores in (("items", nats), ("items_by_length", nats / lengths)):
        # (contexts, items); a choice that an item does not have is never chosen.
        chosen = scores.masked_fill(characters == 0, torch.inf).nan_to_num(torch.inf).argmin(-1)
        correct = (chosen == answers).double().mean(-1)
        bare = correct[ITEM_CONTEXTS.index("none")].item()
        for context, fraction in zip(ITEM_CONTEXTS, correct.tolist(), strict=True):
            yield Value(measure, context, 0, 0, fraction)
            if context != "none":
                yield Value(f"{measure}_change", context, 0, 0, fraction - bare)
