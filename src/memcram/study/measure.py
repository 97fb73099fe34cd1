"""Score and decode what the engine returns, and make rows of the results table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memcram.engine.result import Crammed
from memcram.models import decoding
from memcram.models.accounting import exact_prefix
from memcram.models.frozen_lm import FrozenLM
from memcram.models.scoring import Scored, score
from memcram.recipes.objectives.cross_entropy import CrossEntropy
from memcram.recipes.strategies import Outcome
from memcram.study.grid import Task
from memcram.study.probe import Probed, ProbeInputs, item_nats, probe
from memcram.study.probe_items import TokenizedItem
from memcram.study.results import ResultRow, TokenRecord


@dataclass(frozen=True)
class Labels:
    """Names that all rows of one model of a study share.

    Attributes:
        study, kind: of the spec.
        model: as the spec names it.
    """

    study: str
    kind: str
    model: str


class BareScores:
    """Scores of texts under the bare LM, computed once per text at its longest length.

    Args:
        lm: the model.
        tasks: all of the study's tasks for it, done or not, so that the scores do not depend on
            which tasks were done before.
    """

    def __init__(self, lm: FrozenLM, tasks: Iterable[Task]) -> None:
        self._lm = lm
        self._longest: dict[tuple[str, bool, int], Task] = {}
        self._scored: dict[tuple[str, bool, int], Scored] = {}
        self._item_nats: Tensor | None = None  # all tasks of a model have the same items
        for task in tasks:
            key = _text_key(task)
            if key not in self._longest or len(task.ids) > len(self._longest[key].ids):
                self._longest[key] = task

    def of(self, tasks: Sequence[Task]) -> list[Scored]:
        """Return one score per task, as long as its text or longer."""
        new = [key for key in dict.fromkeys(map(_text_key, tasks)) if key not in self._scored]
        if new:
            longest = [self._longest[key] for key in new]
            prefixes = [task.prefix for task in longest]
            found = score(self._lm, [task.ids for task in longest], prefixes=prefixes)
            self._scored.update(zip(new, found, strict=True))
        return [self._scored[_text_key(task)] for task in tasks]

    def of_items(self, items: tuple[TokenizedItem, ...]) -> Tensor | None:
        """Return the nats of multiple-choice items, (items, choices); None without items."""
        if items and self._item_nats is None:
            nothing = torch.zeros(0, self._lm.input_width)
            self._item_nats = item_nats(self._lm, items, nothing)
        return self._item_nats


@dataclass(frozen=True)
class Finished:
    """A task with the engine's result.

    Attributes:
        task: the task.
        crammed: the result.
        seconds: time attributed to it.
        finds_length: measure only the prefix that is held, not the whole text.
    """

    task: Task
    crammed: Crammed
    seconds: float
    finds_length: bool

    @property
    def n_tokens(self) -> int:
        """N: all tokens, or those of the prefix that is held but at least one to predict."""
        if not self.finds_length:
            return len(self.task.ids)
        return max(1, self.crammed.n_correct) + self.task.recipe.first_token_given

    @property
    def ids(self) -> Tensor:
        """The (N,) tokens that are measured."""
        return self.task.ids[: self.n_tokens]


def measure(
    lm: FrozenLM, labels: Labels, finished: Sequence[Finished], bare: BareScores
) -> list[tuple[ResultRow, TokenRecord]]:
    """Make rows and token records of texts of one recipe.

    The vectors are decoded free-running, in the dtype they are stored in.
    """
    if not finished:
        return []
    given = finished[0].task.recipe.first_token_given
    ids = [one.ids for one in finished]
    mems = [one.crammed.mem for one in finished]
    prefixes = [one.task.prefix for one in finished]
    with_mem = score(lm, ids, mems, first_token_given=given, prefixes=prefixes)
    forced = [text[:1] for text in ids] if given else None
    lengths = [len(text) for text in ids]
    decoded = decoding.greedy(lm, mems, lengths, forced, prefixes=prefixes)
    without = bare.of([one.task for one in finished])
    found = []
    for one, scored, back, alone in zip(finished, with_mem, decoded, without, strict=True):
        record = _record(one, scored, alone)
        if one.task.probe is not None:
            record = replace(record, **_probe(lm, one, record, one.task.probe, bare))
        found.append((_row(lm, labels, one, record, _horizon(one, back)), record))
    return found


def _text_key(task: Task) -> tuple[str, bool, int]:
    """Return a key that is equal for tasks whose texts are prefixes of one another."""
    return task.sample.id, task.bos_in_text, 0 if task.is_prefix else len(task.ids)


def _horizon(one: Finished, decoded: decoding.Decoded) -> int:
    """Count the counted tokens before the first miss."""
    given = int(one.task.recipe.first_token_given)
    return exact_prefix(decoded.ids[given:], one.ids[given:])


def _record(one: Finished, scored: Scored, alone: Scored) -> TokenRecord:
    n, given = one.n_tokens, int(one.task.recipe.first_token_given)
    learned = torch.full((n,), -1, dtype=torch.long)
    known = one.crammed.learned_step[: n - given].long()
    learned[given : given + len(known)] = known
    return TokenRecord(
        mem=one.crammed.mem[: one.task.vectors],
        ids=one.ids,
        mem_nats=scored.nats,
        lm_nats=alone.nats[:n].clone(),
        mem_ranks=scored.ranks,
        lm_ranks=alone.ranks[:n].clone(),
        margins=scored.margins,
        learned_step=learned,
        curve=one.crammed.curve,
        rises=one.crammed.rises,
        path_steps=one.crammed.path_steps,
        path=one.crammed.path,
    )


def _probe(
    lm: FrozenLM, one: Finished, record: TokenRecord, inputs: ProbeInputs, bare: BareScores
) -> dict[str, Tensor]:
    task = one.task
    given, bos = task.recipe.first_token_given, task.bos_in_text
    probed = Probed(record.mem, record.ids, inputs, given, bos, task.seed)
    return probe(lm, probed, bare.of_items(inputs.items))


def _row(
    lm: FrozenLM, labels: Labels, one: Finished, record: TokenRecord, horizon: int
) -> ResultRow:
    task, crammed = one.task, one.crammed
    recipe, n = task.recipe, one.n_tokens
    given = int(recipe.first_token_given)
    counted, margins = n - given, record.margins[given:]
    n_right = int((margins > 0).sum())
    text = record.ids[int(task.bos_in_text) :]
    offered = len(task.ids) - given
    # The published numbers are in nats, so another loss has none.
    as_published = recipe.paper_columns and isinstance(recipe.objective, CrossEntropy)
    paper = _paper_columns(one, record) if as_published and task.derived is None else {}
    return ResultRow(
        task=task.id,
        condition=task.condition,
        recipe=recipe.name,
        first_token_given=recipe.first_token_given,
        bos_in_text=task.bos_in_text,
        source=task.source,
        text_id=task.sample.id,
        origin=task.sample.origin,
        offset=task.sample.offset,
        length=len(task.ids),
        tokens=n,
        utf8_bytes=len(lm.detokenize(text.tolist()).encode()),
        vectors=task.vectors,
        seed=task.seed,
        outcome=str(crammed.outcome) if task.derived is None else "",
        steps=crammed.steps,
        best_step=crammed.best_step,
        token_steps=crammed.token_steps,
        seconds=one.seconds,
        n_counted=counted,
        n_right=n_right,
        accuracy=n_right / counted,
        horizon=horizon,
        exact=horizon == counted,
        censored=horizon == offered,
        min_margin=_finite(margins.min().item()),
        first_nats=None if given else record.mem_nats[0].item(),
        mem_nats=_total(record.mem_nats[1:]),
        lm_nats=_total(record.lm_nats[1:]),
        mem_right=int((record.margins[1:] > 0).sum()),
        lm_right=int((record.lm_ranks[1:] == 0).sum()),
        layout=_layout(lm, task),
        **_model_columns(lm, labels),
        **paper,
    )


def _model_columns(lm: FrozenLM, labels: Labels) -> dict[str, Any]:
    """Columns that all rows of one model of a study share."""
    return {
        "study": labels.study,
        "kind": labels.kind,
        "model": labels.model,
        "revision": lm.identity.revision,
        "fingerprint": lm.identity.fingerprint,
        "parameters": lm.parameters,
        "layers": lm.layers,
        "width": lm.input_width,
        "vocab_size": lm.vocab_size,
        "max_positions": lm.max_positions,
        "dtype": lm.dtype_name,
    }


def _layout(lm: FrozenLM, task: Task) -> str:
    """Name what is fed between `[mem]` and t₁: BOS, visible tokens."""
    return lm.layout + (f"+{len(task.prefix)} tokens" if len(task.prefix) else "")


def _paper_columns(one: Finished, record: TokenRecord) -> dict[str, Any]:
    """Compute measures as the published code does: the best of the run, and means times N."""
    given = int(one.task.recipe.first_token_given)
    n = one.n_tokens
    return {
        "paper_accuracy": one.crammed.n_correct / (n - given),
        "paper_mem_nats": one.crammed.min_loss * n,
        "paper_lm_nats": _total(record.lm_nats[1:]) / max(1, n - 1) * n,
    }


def _total(nats: Tensor) -> float:
    return float(nats.double().sum())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def untrained(key: str, mem: Tensor, n_tokens: int) -> Crammed:
    """Make an engine result of vectors that were not optimised.

    Args:
        key: id of the task.
        mem: (K, width) the vectors.
        n_tokens: length of the text.
    """
    return Crammed(
        key=key,
        mem=mem,
        outcome=Outcome.BUDGET_EXHAUSTED,
        n_correct=0,
        margins=torch.empty(0),
        learned_step=torch.full((n_tokens,), -1),
        best_step=0,
        steps=0,
        token_steps=0,
        min_loss=math.nan,
        curve=torch.empty(0, 3, dtype=torch.float64),
        rises=torch.empty(0, 3, dtype=torch.long),
    )
