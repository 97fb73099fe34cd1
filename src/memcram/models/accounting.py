"""Compute which position predicts which token, input lengths, room and exact prefixes."""

from dataclasses import dataclass

import torch
from torch import Tensor

# CPU kernels work in blocks and finish with scalar code that rounds differently. If lengths are
# whole blocks, no value depends on its place in a batch.
LENGTH_BLOCK = 16


def input_length(vectors: int, prefix: int, n_tokens: int) -> int:
    """Count the input positions of one text under teacher forcing; the last token is never fed.

    Args:
        vectors: K, the number of `[mem]` vectors.
        prefix: positions between `[mem]` and the text: a BOS in the layout `mem+bos`, and visible
            tokens.
        n_tokens: tokens of the text.
    """
    return vectors + prefix + n_tokens - 1


def room(max_positions: int | None, vectors: int, prefix: int) -> int | None:
    """Return the maximum number of tokens whose `input_length` is within `max_positions`.

    None if the model has no limit; 0 or less if the vectors leave no room for a token.
    """
    return None if max_positions is None else max_positions - input_length(vectors, prefix, 0)


def exact_prefix(ids: Tensor, true_ids: Tensor) -> int:
    """Count the tokens before the first difference.

    Args:
        ids: (n,) decoded tokens.
        true_ids: (m,) tokens of the text; only the first min(n, m) tokens are compared.
    """
    n = min(len(ids), len(true_ids))
    return int((ids[:n] == true_ids[:n]).long().cumprod(0).sum())


@dataclass(frozen=True)
class Accounting:
    """The counted tokens of one text after `[mem]`.

    Token tᵢ (i from 0) is predicted at input position `vectors + prefix − 1 + i`: t₁ by the last
    position before the text, every later token by the token before it.

    Attributes:
        vectors: K, the number of `[mem]` vectors.
        prefix: positions between `[mem]` and the text: a BOS in the layout `mem+bos`, and visible
            tokens.
        n_tokens: tokens of the text.
        first_token_given: t₁ is fed but never predicted (only the recipe `kuratov2025`).
    """

    vectors: int
    prefix: int
    n_tokens: int
    first_token_given: bool = False

    @property
    def tokens(self) -> range:
        """Indices of the counted tokens in the text."""
        return range(int(self.first_token_given), self.n_tokens)

    @property
    def positions(self) -> range:
        """Input positions whose hidden states predict `tokens`, in the same order."""
        first = input_length(self.vectors, self.prefix, 0)
        return range(first + self.tokens.start, first + self.n_tokens)

    @property
    def input_length(self) -> int:
        """Positions of the text under teacher forcing."""
        return input_length(self.vectors, self.prefix, self.n_tokens)


def padded_length(longest: int, max_positions: int | None) -> int:
    """Round the positions of a forward pass up to whole blocks, if the model has that many."""
    blocks = -(-longest // LENGTH_BLOCK) * LENGTH_BLOCK
    return blocks if max_positions is None else max(longest, min(blocks, max_positions))


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute target logit − largest other logit per token.

    A token is the argmax if and only if its margin is positive; a tie (0) counts as wrong, because
    the kernel decides which of the two wins.

    Args:
        logits: (token, vocabulary).
        targets: (token,) ids.

    Returns:
        (token,) in float32 or float64.
    """
    index = targets[:, None]
    others = logits.detach().scatter(-1, index, float("-inf")).argmax(-1, keepdim=True)
    chosen = logits.gather(-1, torch.cat([index, others], dim=-1))
    chosen = chosen if chosen.dtype == torch.float64 else chosen.float()
    return chosen[:, 0] - chosen[:, 1]
