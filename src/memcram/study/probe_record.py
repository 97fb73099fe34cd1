"""Names and shapes of what a probe stores in the token record of a row."""

from torch import Tensor

from memcram.study.results import TokenRecord

CONTEXTS = ("mem", "passage", "none", "random")
"""What precedes a continuation: `[mem]`, the passage as tokens, nothing, a random vector."""
ATTENDED = ("mem", "random")
"""What the passage attends to: `[mem]`, or a random vector in its place."""
CUTS = ("layer", "first")
"""Where the attention to `[mem]` is cut: in one layer, or in the first n layers."""
ITEM_CONTEXTS = ("none", "mem", "random")
"""What precedes a multiple-choice item."""

_SHAPES = {
    "probe_nats": (len(CONTEXTS), None, None),
    "probe_attention": (len(ATTENDED), None, None),
    "probe_cuts": (len(CUTS), None, 2),
    "probe_item_nats": (len(ITEM_CONTEXTS), None, None),
    "probe_items": (None, None),
}
_WORDS = {
    "probe_nats": "(4, 2 or more, 2 or more) floats",
    "probe_attention": "(2, layers, heads) floats",
    "probe_cuts": "(2, layers + 1, 2) floats",
    "probe_item_nats": "(3, items, choices) floats",
    "probe_items": "(items, 1 + choices) integers",
}


def wrong_probe(record: TokenRecord) -> tuple[str, Tensor | None, str] | None:
    """Return name, value and allowed shape of the first tensor of a probe that does not fit.

    None if all fit, or if there is no probe.
    """
    found = {name: getattr(record, name) for name in _SHAPES}
    items = found["probe_item_nats"], found["probe_items"]
    if all(one is None for one in found.values()):
        return None
    needed = [name for name in _SHAPES if "item" not in name or any(x is not None for x in items)]
    for name in needed:
        value = found[name]
        if value is None or not _fits(value, _SHAPES[name], integers=name == "probe_items"):
            return name, value, _WORDS[name]
    nats, attention, cuts = (found[name] for name in list(_SHAPES)[:3])
    if min(nats.shape) < 2:
        return "probe_nats", nats, _WORDS["probe_nats"]
    if cuts.shape[1] != attention.shape[1] + 1:
        return "probe_cuts", cuts, _WORDS["probe_cuts"]
    if items[0] is not None and items[1] is not None:
        _, n, choices = items[0].shape
        answers_fit = bool(((items[1][:, 0] >= 0) & (items[1][:, 0] < max(choices, 1))).all())
        if tuple(items[1].shape) != (n, 1 + choices) or not choices or not answers_fit:
            return "probe_items", items[1], _WORDS["probe_items"]
    return None


def _fits(value: Tensor, shape: tuple[int | None, ...], *, integers: bool) -> bool:
    return (
        value.dim() == len(shape)
        and all(wanted in (None, got) for wanted, got in zip(shape, value.shape, strict=True))
        and value.numel() > 0
        and value.is_floating_point() != integers
    )
