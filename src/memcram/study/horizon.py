"""Measure how many tokens of a text fit into K vectors within a budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memcram.engine.batch import SEED_STRIDE, CramRequest
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed
from memcram.metrics.bound import capacity_bound
from memcram.models import decoding
from memcram.models.accounting import exact_prefix
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.recipe import Recipe
from memcram.texts import TextSample


@dataclass(frozen=True)
class MeasuredHorizon:
    """The exact horizon of one text.

    Attributes:
        id, origin, offset: of the sample; `offset` in characters.
        horizon: correct tokens before the first miss of free-running decoding.
        censored: the sample ended first (cut by its text or the model's positions), so more might
            have fitted.
        steps, token_steps: cost of the optimisation.
        min_margin: smallest margin over the horizon, in logits; None for an empty horizon.
    """

    id: str
    origin: str
    offset: int
    horizon: int
    censored: bool
    steps: int
    token_steps: int
    min_margin: float | None


def longest_sample(lm: FrozenLM, vectors: int) -> int:
    """Return the maximum length of a sample in tokens, limited by positions and capacity bound.

    The bound is that of vectors with 32 bits per coordinate.

    Raises:
        UsageError: K vectors leave no room for a token.
    """
    bound = int(capacity_bound(lm.input_width, lm.vocab_size, bits=32) * vectors)
    room = lm.room(vectors)
    return bound if room is None else min(room, bound)


def measure_horizons(
    lm: FrozenLM,
    samples: Sequence[TextSample],
    recipe: Recipe,
    *,
    vectors: int = 1,
    seed: int = 0,
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
        on_poll: called with the engine's status as the texts advance.

    Raises:
        UsageError: the recipe never predicts t₁, or only crams texts of given length.
    """
    engine = Engine(lm, recipe.for_one_text().for_horizon())
    requests = [
        CramRequest(i, sample.ids, vectors, seed + SEED_STRIDE * i)
        for i, sample in enumerate(samples)
    ]
    done: dict[object, Crammed] = {
        crammed.key: crammed for crammed in engine.run(requests, on_poll)
    }
    crammed = [done[i] for i in range(len(samples))]
    held = [i for i, one in enumerate(crammed) if one.n_correct > 0]
    decoded = decoding.greedy(
        lm, [crammed[i].mem for i in held], [crammed[i].n_correct for i in held]
    )
    by_sample = dict(zip(held, decoded, strict=True))
    return [_measured(samples[i], one, by_sample.get(i)) for i, one in enumerate(crammed)]


def _measured(
    sample: TextSample, crammed: Crammed, decoded: decoding.Decoded | None
) -> MeasuredHorizon:
    horizon = 0
    margin: float | None = None
    if decoded is not None:
        horizon = exact_prefix(decoded.ids, sample.ids)
        margin = decoded.margins[:horizon].min().item() if horizon else None
    return MeasuredHorizon(
        id=sample.id,
        origin=sample.origin,
        offset=sample.offset,
        horizon=horizon,
        censored=horizon == len(sample.ids),
        steps=crammed.steps,
        token_steps=crammed.token_steps,
        min_margin=margin,
    )
