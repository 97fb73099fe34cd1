"""Losses on trial: a line of the arena may name them, and the package knows none of them.

Those that derive from `TextObjective` see which tokens belong to one text, and its steps.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from memcram.models.accounting import margins
from memcram.recipes.objectives import (
    CrossEntropy,
    Objective,
    SmoothMargin,
    TextObjective,
    Texts,
    TokenScores,
)
from memcram.recipes.ranges import AtLeastOne, NotNegative, Positive, Real


@dataclass(frozen=True)
class TruncatedCrossEntropy:
    """−log p(tᵢ) where the margin is below τ, else 0: cross-entropy that stops paying.

    Attributes:
        tau: the margin (logits) from which on a token costs nothing.
    """

    tau: Real = 0.5

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        scores = CrossEntropy()(logits, targets)
        return TokenScores(scores.loss * (scores.margin < self.tau), scores.margin)


@dataclass(frozen=True)
class FocalCrossEntropy:
    """(1 − p)^γ · (−log p) with p = p(tᵢ): a token counts less, the surer it is.

    Source: Lin et al., ICCV 2017.

    Attributes:
        gamma: γ; 0 would be cross-entropy.
    """

    gamma: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """Score logits (token, vocabulary) against targets (token,)."""
        scores = CrossEntropy()(logits, targets)
        missing = -torch.expm1(-scores.loss)  # 1 − p
        return TokenScores(missing**self.gamma * scores.loss, scores.margin)


@dataclass(frozen=True)
class FirstWrong(TextObjective):
    """(1 + extra · [i is the first wrong token]) · τ · softplus(−margin / τ).

    Attributes:
        tau: width of the smooth margin, in logits.
        extra: added weight of the first wrong token of the loss.
        above: a token is wrong unless its margin (logits) exceeds this.
    """

    tau: Positive = 0.1
    extra: NotNegative = 4.0
    above: NotNegative = 0.02

    def of_texts(self, texts: Texts) -> Objective:
        """The loss for these texts."""

        def score(logits: Tensor, targets: Tensor) -> TokenScores:
            scores = SmoothMargin(self.tau)(logits, targets)
            wrong = (texts.table(scores.margin, 0.0) <= self.above) & texts.in_loss
            first = wrong & (wrong.cumsum(1) == 1)
            weight = 1 + self.extra * _of_cells(first.to(scores.loss), texts, len(targets))
            return TokenScores(weight * scores.loss, scores.margin)

        return score


@dataclass(frozen=True)
class WorstTokens(TextObjective):
    """n · wᵢ · lᵢ, w = softmax(l / heat) over the n tokens of a text, l the smooth margin loss.

    w has no gradient, so that the mean over the text has that of heat · log Σ exp(l / heat): about
    the mean of l for a large heat, and its maximum for a small one.

    Attributes:
        tau: width of the smooth margin, in logits.
        heat: of the softmax, in logits.
    """

    tau: Positive = 0.1
    heat: Positive = 0.5

    def of_texts(self, texts: Texts) -> Objective:
        """The loss for these texts."""

        def score(logits: Tensor, targets: Tensor) -> TokenScores:
            scores = SmoothMargin(self.tau)(logits, targets)
            loss, n = scores.loss.detach(), len(targets)
            largest = texts.table(loss, 0.0).masked_fill(~texts.in_loss, 0.0).amax(1)
            # Over the tokens in a row, not the table: its width is that of the longest batch-mate.
            raised = ((loss - _of_rows(largest, texts, n)).clamp(max=0) / self.heat).exp()
            # One token after the other, for the same reason.
            sums = texts.table(raised, 0.0).masked_fill(~texts.in_loss, 0.0).cumsum(1)[:, -1]
            share = texts.in_loss.sum(1) / sums
            return TokenScores(raised * _of_rows(share, texts, n) * scores.loss, scores.margin)

        return score


@dataclass(frozen=True)
class AnnealedMargin(TextObjective):
    """τₜ · softplus(−margin / τₜ), τₜ = first · (last / first)^min(1, t / steps).

    Attributes:
        first, last: τ in logits, at t = 0 and from t = `steps` on.
        steps: of the way.
        since_growth: t counts from the step at which one more token was held for the last time,
            instead of from the start of the text.
    """

    first: Positive = 1.0
    last: Positive = 0.1
    steps: AtLeastOne = 300
    since_growth: bool = False

    def of_texts(self, texts: Texts) -> Objective:
        """The loss for these texts, at this step."""

        def score(logits: Tensor, targets: Tensor) -> TokenScores:
            share = _share_of_way(texts, self.steps, len(targets), since_growth=self.since_growth)
            tau = self.first * (self.last / self.first) ** share
            margin = margins(logits, targets)
            return TokenScores(tau * functional.softplus(-margin / tau), margin.detach())

        return score


@dataclass(frozen=True)
class CrossEntropyThenMargin(TextObjective):
    """(1 − s) · (−log p) + s · τ · softplus(−margin / τ), s = min(1, t / steps).

    Attributes:
        tau: width of the smooth margin, in logits.
        steps: of the way from one to the other.
        since_growth: t counts from the step at which one more token was held for the last time,
            instead of from the start of the text.
    """

    tau: Positive = 0.1
    steps: AtLeastOne = 300
    since_growth: bool = False

    def of_texts(self, texts: Texts) -> Objective:
        """The loss for these texts, at this step."""

        def score(logits: Tensor, targets: Tensor) -> TokenScores:
            share = _share_of_way(texts, self.steps, len(targets), since_growth=self.since_growth)
            before, after = CrossEntropy()(logits, targets), SmoothMargin(self.tau)(logits, targets)
            return TokenScores((1 - share) * before.loss + share * after.loss, after.margin)

        return score


LOSSES = (
    TruncatedCrossEntropy,
    FocalCrossEntropy,
    FirstWrong,
    WorstTokens,
    AnnealedMargin,
    CrossEntropyThenMargin,
)


def _share_of_way(texts: Texts, steps: int, n: int, *, since_growth: bool) -> Tensor:
    """(n,): min(1, t / steps) of each token's text; 0 for the padding behind them."""
    done = texts.rows["step"]
    if since_growth:
        done = done - texts.rows["most_held_step"]
    return _of_rows((done / steps).clamp(max=1), texts, n)


def _of_rows(values: Tensor, texts: Texts, n: int) -> Tensor:
    """(n,): of each token its text's value (text,); 0 for the padding behind them."""
    found = values[texts.cells[0]]
    return functional.pad(found, (0, n - len(found)))


def _of_cells(table: Tensor, texts: Texts, n: int) -> Tensor:
    """(n,): of each token its value in (text, token); 0 for the padding behind them."""
    found = table[texts.cells[0], texts.cells[1]]
    return functional.pad(found, (0, n - len(found)))
