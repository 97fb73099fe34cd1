"""Score texts under teacher forcing: nats, margins and ranks, with `[mem]` and without."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from memcram.models.accounting import Accounting, margins, padded_length
from memcram.models.frozen_lm import FrozenLM

_CPU_BATCH_TOKENS = 4096
_ACCELERATOR_BATCH_TOKENS = 32_768
# Logits held at once, in elements; 2²⁵ in float32 are 128 MiB.
_LOGITS_AT_ONCE = 2**25


@dataclass(frozen=True)
class Scored:
    """Scores of one text, token by token.

    Where nothing predicts t₁ (it is given, or no position precedes it), its nats and margin are NaN
    and its rank is −1.

    Attributes:
        nats: (N,) −log p(tᵢ).
        margins: (N,) in logits.
        ranks: (N,) number of other tokens with a larger or equal logit; 0 for the argmax.
    """

    nats: Tensor
    margins: Tensor
    ranks: Tensor


def score(
    lm: FrozenLM,
    ids: Sequence[Tensor],
    mems: Sequence[Tensor] | None = None,
    *,
    first_token_given: bool = False,
    prefixes: Sequence[Tensor] | None = None,
) -> list[Scored]:
    """Score texts in batches.

    Args:
        lm: the model.
        ids: (N,) per text, N ≥ 1.
        mems: (K, input_width) per text; None scores the bare LM, where no position precedes t₁ in
            the layout `mem`.
        first_token_given: do not score t₁, even if a position predicts it.
        prefixes: (p,) token ids per text that are fed before it, after `[mem]` and BOS, and not
            scored; None: no such tokens.

    Returns:
        one per text, on the CPU.
    """
    usual = _CPU_BATCH_TOKENS if lm.device.type == "cpu" else _ACCELERATOR_BATCH_TOKENS
    nothing = torch.zeros(0, lm.input_width)
    inputs = [nothing] * len(ids) if mems is None else mems
    given = [text[:0] for text in ids] if prefixes is None else prefixes
    accounts = [
        Accounting(len(mem), len(lm.prefix) + len(before), len(text), first_token_given)
        for mem, before, text in zip(inputs, given, ids, strict=True)
    ]
    order = sorted(range(len(ids)), key=lambda i: -accounts[i].input_length)
    results: dict[int, Scored] = {}
    while order:
        longest = padded_length(max(1, accounts[order[0]].input_length), lm.max_positions)
        size = max(1, usual // longest)
        group, order = order[:size], order[size:]
        texts = [_Text(inputs[i], given[i], ids[i], accounts[i]) for i in group]
        scored = _score_batch(lm, texts)
        results.update(zip(group, scored, strict=True))
    return [results[i] for i in range(len(ids))]


@dataclass(frozen=True)
class _Text:
    """One text to score: its vectors (K, width), visible tokens (p,), tokens (N,), positions."""

    mem: Tensor
    prefix: Tensor
    ids: Tensor
    account: Accounting


@torch.no_grad()
def _score_batch(lm: FrozenLM, texts: Sequence[_Text]) -> list[Scored]:
    rows = [
        torch.cat(
            [
                one.mem.to(lm.device, lm.dtype),
                lm.prefix,
                lm.embed(torch.cat([one.prefix, one.ids[:-1]])),
            ]
        )
        for one in texts
    ]
    padded = pad_sequence(rows, batch_first=True)
    length = padded_length(max(1, padded.shape[1]), lm.max_positions)
    hidden = lm.hidden(functional.pad(padded, (0, 0, 0, length - padded.shape[1])))
    found = []
    for row, one in enumerate(texts):
        # Without [mem] and BOS, t₁ would be predicted at position −1: by nothing.
        pairs = zip(one.account.positions, one.account.tokens, strict=True)
        counted = [(position, token) for position, token in pairs if position >= 0]
        found.append(score_states(lm, hidden[row], one.ids.to(lm.device), counted))
    return found


def score_states(
    lm: FrozenLM, hidden: Tensor, text: Tensor, counted: Sequence[tuple[int, int]]
) -> Scored:
    """Score one text from the final hidden states of its positions.

    Args:
        lm: the model.
        hidden: (position, d).
        text: (N,) ids, on the same device.
        counted: position and index in the text of each token to score.
    """
    exact = torch.float64 if lm.dtype == torch.float64 else torch.float32
    unknown = torch.full((len(text),), float("nan"), dtype=exact)
    nats, margin = unknown.clone(), unknown.clone()
    ranks = torch.full((len(text),), -1)
    if counted:
        places = torch.tensor(counted, device=text.device)
        step = max(1, _LOGITS_AT_ONCE // lm.vocab_size)
        for part in places.split(step):
            logits = lm.head(hidden[part[:, 0]]).to(exact)
            targets = text[part[:, 1]]
            at = part[:, 1].cpu()
            nats[at] = functional.cross_entropy(logits, targets, reduction="none").cpu()
            margin[at] = margins(logits, targets).cpu()
            chosen = logits.gather(1, targets[:, None])
            ranks[at] = ((logits >= chosen).sum(1) - 1).cpu()
    return Scored(nats, margin, ranks)
