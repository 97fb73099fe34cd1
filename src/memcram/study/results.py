"""The results table: one row a measured text, and what is kept of each of its tokens.

Every figure and table of a report is a function of these rows and token records, and of nothing
else. Counting is one for all columns: t₁ … t_N are the tokens of the text, `*_nats` and `*_right`
run over t₂ … t_N, for which the bare LM has a prediction too, and t₁ has columns of its own.
"""

from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import get_args

from torch import Tensor


@dataclass(frozen=True)
class ResultRow:
    """One text, crammed once and measured.

    Attributes:
        task: content hash of everything that decides the row; names its vectors.
        study: name of the study.
        kind: `capacity` (a text of given length), `horizon` (as much as fits), or an ablation
            (docs/studies.md).
        condition: what an ablation varies, as text (`context=64`, `layers=3`, …); else empty.
        model, revision, fingerprint: which model, as the user named it.
        parameters: weights of the model.
        layers, width, vocab_size: of the model; width of an input vector.
        max_positions: longest input, None without a limit.
        recipe: its name.
        dtype: of weights and vectors; autocast's after a plus sign (`float32+bfloat16`).
        layout: `mem` or `mem+bos`.
        first_token_given: t₁ was fed, never predicted.
        bos_in_text: the tokenizer's BOS was put into the text and counts as t₁ (published recipes).
        source: name of the text source in the study.
        text_id, origin, offset: of the sample; offset in characters.
        length: tokens asked for (for a horizon: tokens offered).
        tokens: N, tokens of the text that was crammed.
        utf8_bytes: bytes of those tokens as text.
        vectors: K; 0 where n tokens of left context stand in their place: what the other columns
            say of `mem` is then said of the context.
        seed: of the start.
        outcome: how the optimisation ended; empty where nothing was optimised.
        steps, best_step: optimiser steps in all, and before the kept vectors.
        token_steps: positions that went forward and backward.
        seconds: of the batch this text was in, shared out by token-steps.
        n_counted: tokens the loss ran over (N, or N − 1 where t₁ was given).
        n_right: of those, how many are the argmax under teacher forcing, at the kept vectors.
        accuracy: n_right / n_counted, the teacher-forced accuracy.
        horizon: tokens before the first miss in free-running decoding from the stored vectors;
            where t₁ was given it is given here too and does not count.
        exact: free-running decoding returned every counted token.
        censored: the text or the positions ended before the horizon did.
        min_margin: smallest margin (logits) over the counted tokens under teacher forcing.
        first_nats: −log p of t₁ behind `mem`; None where t₁ was given.
        mem_nats, lm_nats: Σ −log p over t₂ … t_N with `mem` and under the bare LM.
        mem_right, lm_right: argmax tokens among t₂ … t_N with `mem` and under the bare LM.
        paper_accuracy: largest accuracy of the run (recipes `kuratov2025` only, as its code does).
        paper_mem_nats: smallest mean loss of the run × N (the same).
        paper_lm_nats: mean loss of the bare LM over t₂ … t_N × N (the same).
    """

    task: str
    study: str
    kind: str
    condition: str
    model: str
    revision: str | None
    fingerprint: str
    parameters: int
    layers: int
    width: int
    vocab_size: int
    max_positions: int | None
    recipe: str
    dtype: str
    layout: str
    first_token_given: bool
    bos_in_text: bool
    source: str
    text_id: str
    origin: str
    offset: int
    length: int
    tokens: int
    utf8_bytes: int
    vectors: int
    seed: int
    outcome: str
    steps: int
    best_step: int
    token_steps: int
    seconds: float
    n_counted: int
    n_right: int
    accuracy: float
    horizon: int
    exact: bool
    censored: bool
    min_margin: float | None
    first_nats: float | None
    mem_nats: float
    lm_nats: float
    mem_right: int
    lm_right: int
    paper_accuracy: float | None = None
    paper_mem_nats: float | None = None
    paper_lm_nats: float | None = None


@dataclass(frozen=True)
class TokenRecord:
    """What is kept of each token of one row, beside its vectors; one safetensors file a row.

    Attributes:
        mem: (K, width) the kept vectors, in the model's dtype.
        ids: (N,) the tokens.
        mem_nats: (N,) −log p with `mem`, under teacher forcing; NaN for a t₁ that was given.
        lm_nats: (N,) −log p under the bare LM; NaN for t₁.
        mem_ranks: (N,) rank of the true token with `mem` (0 is the argmax); −1 for a given t₁.
        lm_ranks: (N,) the same under the bare LM; −1 for t₁.
        margins: (N,) in logits, with `mem`; NaN for a given t₁.
        learned_step: (N,) the step from which the token was right up to the kept vectors;
            −1 where it was not right at the end.
        curve: (points, 3) of the run: step, tokens right (or held, where a prefix is kept), mean
            loss.
        path_steps: (points,) steps of `path`, rising up to the last; None where none was kept.
        path: (points, K, width) `[mem]` as it was measured, evenly spread over the run, in the
            model's dtype; the last are the kept vectors, and later steps may stand before them.
    """

    mem: Tensor
    ids: Tensor
    mem_nats: Tensor
    lm_nats: Tensor
    mem_ranks: Tensor
    lm_ranks: Tensor
    margins: Tensor
    learned_step: Tensor
    curve: Tensor
    path_steps: Tensor | None = None
    path: Tensor | None = None


def column_types() -> dict[str, tuple[type, bool]]:
    """Type of each column and whether it may be empty, in the table's order."""
    found = {}
    for field in fields(ResultRow):
        union = isinstance(field.type, UnionType)
        kinds = [kind for kind in get_args(field.type) if kind is not NoneType]
        found[field.name] = (kinds[0] if union else field.type, union)
    return found  # type: ignore[return-value]
