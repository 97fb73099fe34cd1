"""Which positions count, and what they cost: pure functions on logits and token ids.

`Accounting` is the one place that decides which hidden state predicts which token; loss,
accuracy, margin and information all use it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from memcram.ranges import AtLeastOne, NotNegative, Positive


@dataclass(frozen=True)
class Accounting:
    """The counted tokens of one text behind `[mem]`.

    Token tᵢ (i from 0) is predicted at input position `vectors + prefix − 1 + i`: t₁ by the last
    position before the text, every later token by the token before it.

    Attributes:
        vectors: K, the number of `[mem]` vectors.
        prefix: positions between `[mem]` and the text (1 in the layout `mem+bos`, else 0).
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
        first = self.vectors + self.prefix - 1
        return range(first + self.tokens.start, first + self.n_tokens)

    @property
    def input_length(self) -> int:
        """Positions fed under teacher forcing; the last token is predicted, never fed."""
        return self.vectors + self.prefix + self.n_tokens - 1


@dataclass(frozen=True)
class TokenScores:
    """Loss and margin of each counted token, both (token,), with gradients to the logits."""

    loss: Tensor
    margin: Tensor


class Objective(Protocol):
    """A loss per token; the engine takes its mean over each text's counted tokens."""

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""


class Texts(Protocol):
    """The texts of a batch, as a loss may see them: which token is whose, and where each stands.

    Attributes:
        rows: state by name; `step` (text,) are optimiser steps done, `most_held_step` (text,) the
            step at which one more token was held for the last time, or the slot was put back to
            earlier vectors.
        cells: (2, counted) text and index of each counted token, in the order of the logits; the
            logits have rows of padding behind them.
        in_loss: (text, token), those that are not only looked ahead at.
    """

    rows: dict[str, Tensor]
    cells: Tensor
    in_loss: Tensor

    def table(self, values: Tensor, fill: float) -> Tensor:
        """Spread one value per counted token over (text, token), `fill` where none is counted."""


class TextObjective(ABC):
    """A loss per token that depends on the other tokens of its text, or on its steps.

    The engine hands over all counted tokens of a batch at once, whatever memory their logits take.
    """

    @abstractmethod
    def of_texts(self, texts: Texts) -> Objective:
        """The loss for these texts, at this step."""


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """Target logit − best other logit, per token.

    A token is the argmax exactly if its margin is positive; a tie (0) counts as wrong, since which
    of the two wins is up to the kernel.

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


@dataclass(frozen=True)
class CrossEntropy:
    """−log p(tᵢ), in nats: the loss of both published recipes."""

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        loss = functional.cross_entropy(wide, targets, reduction="none")
        return TokenScores(loss, margins(logits.detach(), targets))


@dataclass(frozen=True)
class HingeMargin:
    """max(0, τ − margin)^power: no gradient for a token whose margin exceeds τ.

    Attributes:
        tau: the margin (logits) beyond which a token costs nothing.
        power: 1 hinge, 2 squared hinge.
    """

    tau: NotNegative = 0.5
    power: AtLeastOne = 1

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        margin = margins(logits, targets)
        return TokenScores((self.tau - margin).clamp(min=0) ** self.power, margin.detach())


@dataclass(frozen=True)
class SmoothMargin:
    """τ · softplus(−margin / τ): a hinge at 0 with a rounded corner of width τ (logits).

    Cross-entropy keeps paying for tokens that are already right; this one stops paying once the
    margin is a few τ, and never drops a token that could slip back.
    """

    tau: Positive = 0.2

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        margin = margins(logits, targets)
        return TokenScores(self.tau * functional.softplus(-margin / self.tau), margin.detach())
