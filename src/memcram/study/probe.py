"""Probe what crammed vectors mean to the model, beyond the text that they decode to."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memcram.errors import UsageError
from memcram.models.accounting import Accounting
from memcram.models.attention import attention_mass, check_attention, hidden_without
from memcram.models.frozen_lm import FrozenLM
from memcram.models.scoring import score, score_states
from memcram.study.probe_items import TokenizedItem, digest, read_items, tokenize_items
from memcram.study.probe_record import ATTENDED, CONTEXTS, CUTS, ITEM_CONTEXTS
from memcram.study.probe_spec import settings_of
from memcram.study.spec import Spec
from memcram.texts.sample import TextSample


@dataclass(frozen=True)
class ProbeInputs:
    """What the probe of one text needs besides its vectors.

    Attributes:
        text: (offered + C,) tokens of the text, without BOS, and of its continuation.
        others: (offered + C,) tokens of each other text; its tokens after the first N are the
            continuation that the true one of a passage of N tokens is compared with.
        continuation: C.
        items: multiple-choice items.
    """

    text: Tensor
    others: tuple[Tensor, ...]
    continuation: int
    items: tuple[TokenizedItem, ...] = ()

    def continuations(self, n: int) -> list[Tensor]:
        """Return the (C,) tokens after the first n: the true ones, then those of other texts."""
        return [text[n : n + self.continuation] for text in (self.text, *self.others)]


class ProbePlan:
    """Makes the probe of each text of one model and spec.

    Args:
        spec: of the kind `probe`.
        lm: the model.

    Raises:
        UsageError: the items do not fit the model.
        ModelError: the model's attention can't be measured or cut.
    """

    def __init__(self, spec: Spec, lm: FrozenLM) -> None:
        self._settings = settings_of(spec)
        self._items: tuple[TokenizedItem, ...] = ()
        check_attention(lm)
        if self._settings.items is not None:
            entries = [entry.vectors for entry in spec.study.texts]
            vectors = max(max(one or spec.study.vectors) for one in entries)
            try:
                items = read_items(spec.folder / self._settings.items)
                self._items = tuple(tokenize_items(lm, items, lm.room(vectors)))
            except UsageError as error:
                raise spec.error_from(("probe", "items"), error) from error
        self._digest = digest(self._items) if self._items else None

    @property
    def continuation(self) -> int:
        """Tokens that each sample must have after the passage."""
        return self._settings.continuation

    def inputs(self, samples: Sequence[TextSample], i: int, offered: int) -> ProbeInputs:
        """Return the inputs of one text.

        The other texts are those before it and, for the first few, those after it: more samples
        leave the probes of the others unchanged.

        Args:
            samples: of its cell.
            i: its number.
            offered: tokens offered to the vectors, without BOS.
        """
        near = [*range(i - 1, -1, -1), *range(i + 1, len(samples))][: self._settings.others]
        own, *others = (samples[n].ids[: offered + self.continuation] for n in (i, *near))
        return ProbeInputs(own, tuple(others), self.continuation, self._items)

    def identity(self, inputs: ProbeInputs) -> dict[str, Any]:
        """Return the content for the hash of a task."""
        return {
            "continuation": inputs.continuation,
            "text": inputs.text.tolist(),
            "others": [one.tolist() for one in inputs.others],
            "items": self._digest,
        }


@dataclass(frozen=True)
class Probed:
    """A crammed text to probe.

    Attributes:
        mem: (K, input_width) its vectors.
        ids: (N,) the tokens that they hold.
        inputs: what else is needed.
        first_token_given: t₁ is fed and not predicted.
        bos_in_text: the first token is the tokenizer's BOS.
        seed: of its init.
    """

    mem: Tensor
    ids: Tensor
    inputs: ProbeInputs
    first_token_given: bool
    bos_in_text: bool
    seed: int


def probe(lm: FrozenLM, one: Probed, bare_items: Tensor | None) -> dict[str, Tensor]:
    """Compute the fields `probe_…` of a token record.

    Args:
        lm: the model.
        one: the text.
        bare_items: of `item_nats` without vectors; None without items.
    """
    noise = random_vectors(one.mem, one.seed)
    found = {
        "probe_nats": _continuation_nats(lm, one, noise),
        "probe_attention": _attention(lm, one, noise),
        "probe_cuts": _cuts(lm, one),
    }
    if bare_items is not None:
        items = one.inputs.items
        nats = {"none": bare_items, "mem": item_nats(lm, items, one.mem)}
        nats["random"] = item_nats(lm, items, noise)
        found["probe_item_nats"] = torch.stack([nats[name] for name in ITEM_CONTEXTS])
        choices = bare_items.shape[1]
        facts = [[i.answer, *i.characters, *[0] * (choices - len(i.characters))] for i in items]
        found["probe_items"] = torch.tensor(facts)
    return found


def random_vectors(mem: Tensor, seed: int) -> Tensor:
    """Draw vectors of random directions with the norms of `mem` (K, width).

    The seed is hashed, because the init of `mem` is drawn from it too.
    """
    hashed = hashlib.sha256(f"probe:{seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(hashed[:7], "big"))
    drawn = torch.randn(mem.shape, generator=generator)
    norms = mem.float().norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
    vectors: Tensor = (drawn * norms).to(mem.dtype)
    return vectors


def item_nats(lm: FrozenLM, items: Sequence[TokenizedItem], mem: Tensor) -> Tensor:
    """Compute −log p of each choice after `mem` (K, width; K may be 0) and the item's context.

    Returns:
        (items, choices) in float32; NaN where an item has fewer choices than others.
    """
    pairs = [(item.context, choice) for item in items for choice in item.choices]
    contexts, choices = zip(*pairs, strict=True)
    scored = iter(score(lm, choices, [mem] * len(pairs), prefixes=contexts))
    nats = torch.full((len(items), max(len(item.choices) for item in items)), float("nan"))
    for row, item in enumerate(items):
        for column in range(len(item.choices)):
            nats[row, column] = next(scored).nats.double().sum()
    return nats


def _continuation_nats(lm: FrozenLM, one: Probed, noise: Tensor) -> Tensor:
    """Compute −log p of the true and the other continuations, (contexts, 1 + others, C)."""
    bos = int(one.bos_in_text)
    texts = one.inputs.continuations(len(one.ids) - bos)
    before = {
        "mem": (one.mem, one.ids[:0]),
        "passage": (one.mem[:0], one.ids),
        "none": (one.mem[:0], one.ids[:bos]),
        "random": (noise, one.ids[:0]),
    }
    cases = [(*before[name], text) for name in CONTEXTS for text in texts]
    mems, prefixes, ids = zip(*cases, strict=True)
    scored = score(lm, ids, mems, prefixes=prefixes)
    return torch.stack([found.nats.float() for found in scored]).view(
        len(CONTEXTS), len(texts), one.inputs.continuation
    )


def _inputs(lm: FrozenLM, mem: Tensor, ids: Tensor) -> Tensor:
    """Input vectors of a text after `mem` under teacher forcing, (position, width)."""
    return torch.cat([mem.to(lm.device, lm.dtype), lm.prefix, lm.embed(ids[:-1])])


def _attention(lm: FrozenLM, one: Probed, noise: Tensor) -> Tensor:
    vectors = {"mem": one.mem, "random": noise}
    return torch.stack(
        [attention_mass(lm, _inputs(lm, vectors[name], one.ids), len(one.mem)) for name in ATTENDED]
    )


def _cuts(lm: FrozenLM, one: Probed) -> Tensor:
    """Compute correct tokens and mean −log p with attention to `mem` cut, (2, layers + 1, 2)."""
    k, given = len(one.mem), one.first_token_given
    account = Accounting(k, len(lm.prefix), len(one.ids), given)
    counted = list(zip(account.positions, account.tokens, strict=True))
    layers = torch.eye(lm.layers, dtype=torch.bool)
    nothing = torch.zeros(1, lm.layers, dtype=torch.bool)
    cuts = {
        "layer": torch.cat([nothing, layers]),
        "first": torch.cat([nothing, torch.ones_like(layers).tril()]),
    }
    cases = torch.cat([cuts[name] for name in CUTS])
    states = hidden_without(lm, _inputs(lm, one.mem, one.ids), k, cases)
    ids = one.ids.to(lm.device)
    found = []
    for case in states:
        scored = score_states(lm, case, ids, counted)
        margins, nats = scored.margins[int(given) :], scored.nats[int(given) :]
        found.append([(margins > 0).sum().item(), nats.double().mean().item()])
    return torch.tensor(found).view(len(CUTS), lm.layers + 1, 2)
