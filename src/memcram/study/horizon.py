"""Measure how many tokens of a text fit into K vectors within a budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.compute import ComputeDtype
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.errors import UsageError
from memcram.metrics.bound import capacity_bound
from memcram.metrics.information import bits_per_dimension
from memcram.models import decoding
from memcram.models.accounting import exact_prefix
from memcram.models.frozen_lm import FrozenLM
from memcram.models.scoring import score
from memcram.recipes.recipe import Recipe
from memcram.texts import TextSample


@dataclass(frozen=True)
class MeasuredHorizon:
    """The exact horizon of one text.

    Attributes:
        id, origin, offset: of the sample; `offset` in characters.
        horizon: correct tokens before the first miss of free-running decoding.
        censored: the sample ended first (limited by its text or the model's positions), so more
            might fit.
        steps, token_steps: cost of the optimisation.
        min_margin: smallest margin over the horizon, in logits; None for an empty horizon.
        budget_ended: the budget ended the text, so that a larger one might hold more.
        lm_nats: nats of the horizon's tokens t₂, t₃, … under the bare LM.
        bits_per_dimension: those nats in bits, per coordinate of the K vectors. All of their
            information is counted, because greedy decoding returns these tokens.
    """

    id: str
    origin: str
    offset: int
    horizon: int
    censored: bool
    steps: int
    token_steps: int
    min_margin: float | None
    budget_ended: bool
    lm_nats: float
    bits_per_dimension: float


def longest_sample(lm: FrozenLM, vectors: int, prefix_tokens: int = 0) -> int:
    """Return the maximum number of crammed tokens, limited by positions and capacity bound.

    The bound is that of vectors with 32 bits per coordinate.

    Raises:
        UsageError: K vectors, or the visible tokens, leave no room for a token.
    """
    bound = int(capacity_bound(lm.input_width, lm.vocab_size, bits=32) * vectors)
    room = lm.room(vectors)
    if room is None:
        return bound
    if not 0 <= prefix_tokens < room:
        raise UsageError(argument="prefix_tokens", got=prefix_tokens, allowed=f"0 to {room - 1}")
    return min(room - prefix_tokens, bound)


def measure_horizons(
    lm: FrozenLM,
    samples: Sequence[TextSample],
    recipe: Recipe,
    *,
    vectors: int = 1,
    seed: int = 0,
    compute_dtype: ComputeDtype | torch.dtype = "auto",
    compile_trunk: bool = False,
    prefix_tokens: int = 0,
    on_poll: Callable[[EngineStatus], None] | None = None,
) -> list[MeasuredHorizon]:
    """Measure the longest prefix of each sample that K vectors hold exactly.

    The samples are crammed in batches. The prefix that the engine holds under teacher forcing is
    decoded free-running; the horizon ends at the first miss. Recipes that share parameters between
    texts, or put a BOS into the text, run without that (`Recipe.for_one_text`).

    Args:
        lm: the frozen LM.
        samples: the texts.
        recipe: must have a horizon strategy.
        vectors: K.
        seed: of the inits.
        compute_dtype: of the trunk while optimising, as for `Engine`.
        compile_trunk: as for `Engine`.
        prefix_tokens: first tokens of each sample that are visible: they are fed between `[mem]`
            and the rest, which alone is crammed and counted.
        on_poll: called with the engine's status as the texts advance.

    Raises:
        UsageError: the recipe never predicts t₁, or only crams texts of given length; or a sample
            has no tokens after the visible ones.
    """
    if prefix_tokens < 0:
        raise UsageError(argument="prefix_tokens", got=prefix_tokens, allowed="0 or more")
    growing = recipe.for_one_text().for_horizon()
    prefixes = [sample.ids[:prefix_tokens] for sample in samples]
    texts = [sample.ids[prefix_tokens:] for sample in samples]
    requests = [
        CramRequest(i, text, vectors, seed + SEED_STRIDE * i, prefix=prefix)
        for i, (text, prefix) in enumerate(zip(texts, prefixes, strict=True))
    ]
    engine = Engine(lm, growing, compute_dtype=compute_dtype, compile_trunk=compile_trunk)
    done: dict[object, Crammed] = {
        crammed.key: crammed for crammed in engine.run(requests, on_poll)
    }
    crammed = [done[i] for i in range(len(samples))]
    mems = [one.mem for one in crammed]
    decoded = decoding.greedy(lm, mems, [one.n_correct for one in crammed], prefixes=prefixes)
    horizons = [exact_prefix(one.ids, text) for one, text in zip(decoded, texts, strict=True)]
    nats = _lm_nats(lm, [t[:n] for t, n in zip(texts, horizons, strict=True)], prefixes)
    return [
        MeasuredHorizon(
            id=sample.id,
            origin=sample.origin,
            offset=sample.offset,
            horizon=n,
            censored=n == len(text),
            steps=one.steps,
            token_steps=one.token_steps,
            min_margin=path.margins[:n].min().item() if n else None,
            budget_ended=n < len(text) and one.budget_spent,
            lm_nats=lm_nats,
            bits_per_dimension=bits_per_dimension(lm_nats, lm.input_width, vectors),
        )
        for sample, text, one, path, n, lm_nats in zip(
            samples, texts, crammed, decoded, horizons, nats, strict=True
        )
    ]


def _lm_nats(lm: FrozenLM, texts: Sequence[Tensor], prefixes: Sequence[Tensor]) -> list[float]:
    """Nats of t₂, t₃, … of each text under the bare LM, after its visible tokens."""
    some = [i for i, text in enumerate(texts) if len(text) > 1]
    found = dict.fromkeys(range(len(texts)), 0.0)
    scores = score(lm, [texts[i] for i in some], prefixes=[prefixes[i] for i in some])
    for i, scored in zip(some, scores, strict=True):
        found[i] = float(scored.nats[1:].sum())
    return list(found.values())
