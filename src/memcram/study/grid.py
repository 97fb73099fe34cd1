"""From a spec to tasks: one text, one length, one K, one recipe, one model each."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memcram.engine.batch import SEED_STRIDE
from memcram.errors import TextError, UsageError
from memcram.models.accounting import Accounting, room
from memcram.models.frozen_lm import FrozenLM
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import TokenBudget
from memcram.study.horizon import longest_sample
from memcram.study.kinds import KINDS, Kind
from memcram.study.spec import PATH_OPTIONS, Spec, TextEntry
from memcram.study.variants import Between, Context, Made, Variant
from memcram.texts.sample import TextSample
from memcram.texts.sources import make_source

# Other starts of the same texts; a prime, so that no text's start is another's.
_START_STRIDE = 15_485_863


@dataclass(frozen=True)
class Cell:
    """Texts of a spec that differ in the sample alone.

    Attributes:
        entry: index of the text entry.
        recipe: name.
        vectors: K; 0 where a left context stands in place of vectors.
        length: tokens of each text; None where each has its own, or as many as fit.
        variant: what an ablation changes.
    """

    entry: int
    recipe: str
    vectors: int
    length: int | None
    variant: Variant

    @property
    def inputs(self) -> int:
        """Input vectors before the text."""
        return self.vectors or self.variant.context


@dataclass(frozen=True)
class Task:
    """One text to cram and measure.

    Attributes:
        id: content hash of everything that decides the row, and of nothing else.
        source: name of the text entry.
        condition: what an ablation changes; else empty.
        recipe: what to do, with the strategy of the study's kind and its budget.
        sample: the text.
        ids: (N,) tokens handed to the engine.
        bos_in_text: the first of them is the tokenizer's BOS.
        is_prefix: they are a prefix of the sample, as are those of its other lengths.
        vectors: K.
        seed: of the start.
        group: number that the texts of one group share, None without a group.
        cost: token-steps if the budget is used up; an estimate from above.
        made: how the vectors come about where nothing is crammed; else None.
    """

    id: str
    source: str
    condition: str
    recipe: Recipe
    sample: TextSample
    ids: Tensor
    bos_in_text: bool
    is_prefix: bool
    vectors: int
    seed: int
    group: int | None
    cost: int
    made: Made | None = None


def cells(spec: Spec) -> list[Cell]:
    """The cells for one model, without duplicates, in the spec's order."""
    study = spec.study
    found = []
    for recipe in study.recipes:
        for i, entry in enumerate(study.texts):
            own = entry.lengths_up_to is not None
            lengths = entry.lengths or study.lengths
            for k in entry.vectors or study.vectors:
                for length in [None] if own or lengths is None else lengths:
                    found += [
                        Cell(i, recipe, 0 if variant.context else k, length, variant)
                        for variant in KINDS[study.kind].variants(study)
                    ]
    return list(dict.fromkeys(found))


def cell_samples(spec: Spec, cell: Cell) -> int:
    """Texts of a cell."""
    return spec.study.texts[cell.entry].samples or spec.study.samples


def max_token_steps(recipe: Recipe, positions: int) -> int:
    """Token-steps a text takes at most, if each forward pass has `positions` positions."""
    strategy = recipe.strategy
    most = (strategy.steps + 1) * positions  # the last measurement takes no step
    if isinstance(strategy, TokenBudget):
        most = min(most, strategy.token_steps + positions - 1)
    return most


def study_recipe(spec: Spec, name: str) -> Recipe:
    """A recipe of the spec with its budget and the strategy of the study's kind."""
    recipe = get_recipe(name)
    if spec.study.token_steps is not None:
        recipe = recipe.with_token_steps(spec.study.token_steps)
    if spec.study.steps is not None:
        recipe = recipe.with_steps(spec.study.steps)
    return KINDS[spec.study.kind].recipe(recipe)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a recipe's settings that decide a row: no other kind's strategy, no remark."""
    return {key: value for key, value in settings.items() if key not in ("horizon", "source")}


def expand(spec: Spec, model: int, lm: FrozenLM) -> list[Task]:
    """All tasks of one model of the spec, each once.

    Args:
        spec: of the study.
        model: index in the spec's `loads`.
        lm: that model.

    Raises:
        UsageError: a text and its vectors exceed the model's positions, or there are too few texts.
    """
    grid = _Grid(spec, model, lm)
    tasks: dict[str, Task] = {}
    for cell in cells(spec):
        for task in grid.tasks(cell):
            tasks.setdefault(task.id, task)
    return list(tasks.values())


class _Grid:
    """Samples of each source, drawn once at the longest length, and the tasks made of them."""

    def __init__(self, spec: Spec, model: int, lm: FrozenLM) -> None:
        self.spec = spec
        self.lm = lm
        self.kind: Kind = KINDS[spec.study.kind]
        self._load = spec.loads[model]
        self._model = _model_identity(spec, lm)
        self._longest: dict[str, int] = {}
        self._count: dict[str, int] = {}
        self._drawn: dict[str, list[TextSample]] = {}
        self._made: dict[Cell, list[Task]] = {}
        self._left: dict[str, list[int]] = {}
        for cell in cells(spec):
            self._check_room(cell)
            key = self._source_key(cell.entry)
            self._longest[key] = max(self._longest.get(key, 0), self._most_tokens(cell))
            self._count[key] = max(self._count.get(key, 0), cell_samples(spec, cell))

    def tasks(self, cell: Cell) -> list[Task]:
        """The tasks of a cell; those that share parameters carry one group number."""
        if cell not in self._made:
            made = self._makings(cell)
            self._made[cell] = list(self._tasks(cell, made))
        return self._made[cell]

    def _makings(self, cell: Cell) -> list[Made | None]:
        """How the vectors of each text come about where they are not crammed."""
        variant = cell.variant
        samples = self._samples(cell.entry)[: cell_samples(self.spec, cell)]
        if variant.ends is not None:
            first, second = (self.tasks(replace(cell, variant=end)) for end in variant.ends)
            pairs = zip(first, second, strict=True)
            return [Between((a.id, b.id), variant.share) for a, b in pairs]
        if variant.context:
            return [Context(tuple(self._context(cell, sample))) for sample in samples]
        return [None] * len(samples)

    def _context(self, cell: Cell, sample: TextSample) -> list[int]:
        """The last tokens before a text."""
        if sample.id not in self._left:
            self._left[sample.id] = self.lm.tokenize(sample.left) if sample.left else []
        left, wanted = self._left[sample.id], cell.variant.context
        if len(left) < wanted:
            contexts = self.spec.study.contexts or []
            raise self.spec.error(
                ("contexts", contexts.index(wanted)),
                f"got {wanted}, but a text of {self.spec.study.texts[cell.entry].name!r} has "
                f"{len(left)} tokens of left context",
            )
        return left[-wanted:]

    def _tasks(self, cell: Cell, made: list[Made | None]) -> Iterator[Task]:
        recipe = study_recipe(self.spec, cell.recipe)
        samples = self._samples(cell.entry)[: cell_samples(self.spec, cell)]
        size = recipe.group_size or 1
        for first in range(0, len(samples), size):
            members = list(enumerate(samples))[first : first + size]
            texts = [self._text(cell, recipe, i, sample) for i, sample in members]
            described = [
                self._describe(cell, recipe, sample, ids, self._seed(cell, i), made[i])
                for (i, sample), ids in zip(members, texts, strict=True)
            ]
            grouped = recipe.group_size is not None and cell.variant.ends is None
            together = _digest(described) if grouped else None
            for (i, sample), ids, one in zip(members, texts, described, strict=True):
                positions = self.lm.input_length(cell.inputs, len(ids))
                yield Task(
                    id=_digest({"task": one, "group": together}),
                    source=self.spec.study.texts[cell.entry].name,
                    condition=self._condition(cell),
                    recipe=recipe,
                    sample=sample,
                    ids=ids,
                    bos_in_text=self._has_bos(recipe),
                    is_prefix=cell.variant.times == 1,
                    vectors=cell.vectors,
                    seed=self._seed(cell, i),
                    group=None if together is None else int(together[:15], 16),
                    cost=positions if made[i] else max_token_steps(recipe, positions),
                    made=made[i],
                )

    def _text(self, cell: Cell, recipe: Recipe, i: int, sample: TextSample) -> Tensor:
        """(N,) the tokens of a text, with the tokenizer's BOS where the recipe wants it."""
        cap = self.spec.study.texts[cell.entry].lengths_up_to
        if cap is not None:
            # Drawn by the sample's number, so that more samples leave the others as they are.
            length = random.Random(f"length:{self.spec.study.seed}:{i}").randint(2, cap)
        else:
            length = cell.length or self._most_tokens(cell)
        if self._has_bos(recipe):
            text = sample.ids[: length - 1].repeat(cell.variant.times)
            return torch.cat([torch.tensor([self.lm.bos_id]), text])
        return sample.ids[:length].repeat(cell.variant.times)

    def _has_bos(self, recipe: Recipe) -> bool:
        return recipe.bos_in_text and self.lm.adds_bos

    def _seed(self, cell: Cell, i: int) -> int:
        return self.spec.study.seed + SEED_STRIDE * i + _START_STRIDE * cell.variant.start

    def _condition(self, cell: Cell) -> str:
        return cell.variant.condition or self._load.condition

    def _describe(
        self,
        cell: Cell,
        recipe: Recipe,
        sample: TextSample,
        ids: Tensor,
        seed: int,
        made: Made | None,
    ) -> dict[str, Any]:
        """Everything that decides a row, as JSON values; no place on a disk."""
        entry = self.spec.study.texts[cell.entry]
        ablation = {
            "condition": self._condition(cell),
            "made": None if made is None else asdict(made),
        }
        return {
            "version": 1,
            "kind": self.spec.study.kind,
            "model": self._model,
            "recipe": deciding(recipe.settings()),
            "source": [entry.source, _plain_options(entry)],
            "text": sample.id,
            "ids": ids.tolist(),
            "vectors": cell.vectors,
            "seed": seed,
        } | {key: value for key, value in ablation.items() if value}

    def _samples(self, i: int) -> list[TextSample]:
        key = self._source_key(i)
        if key not in self._drawn:
            entry = self.spec.study.texts[i]
            source = make_source(entry.source, **self.spec.options(i))
            try:
                self._drawn[key] = source.sample(
                    self.lm.tokenize,
                    samples=self._count[key],
                    n_tokens=self._longest[key],
                    seed=self.spec.study.seed,
                )
            except TextError as error:
                raise self.spec.error(("texts", i), error.message(None)) from error
        return self._drawn[key]

    def _source_key(self, i: int) -> str:
        entry = self.spec.study.texts[i]
        return json.dumps([entry.source, entry.options], sort_keys=True, default=str)

    def _most_tokens(self, cell: Cell) -> int:
        entry = self.spec.study.texts[cell.entry]
        return entry.lengths_up_to or cell.length or longest_sample(self.lm, cell.inputs)

    def _check_room(self, cell: Cell) -> None:
        """Refuse a cell that exceeds the model's positions, or leaves nothing to predict."""
        recipe = get_recipe(cell.recipe)
        given = recipe.first_token_given
        place = _length_place(self.spec, cell)
        try:
            n = self._most_tokens(cell) * cell.variant.times
        except UsageError as error:
            raise self.spec.error(("vectors",), error.message(None)) from error
        account = Accounting(cell.inputs, len(self.lm.prefix), n, given)
        if not account.tokens:
            raise self.spec.error(place, f"got {n}, allowed: 2 or more for {recipe.name!r}")
        tokens = room(self.lm.max_positions, cell.inputs, len(self.lm.prefix))
        if tokens is not None and n > tokens:
            raise self.spec.error(
                place,
                f"got {n} tokens {_with(cell)}, allowed: at most {max(0, tokens)} "
                f"({self.lm.identity.id} has {self.lm.max_positions} positions)",
            )


def resolve_model(spec: Spec, model: int) -> str:
    """The name under which a model is loaded: a folder beside the spec, or the name itself."""
    from memcram.models.sources import model_beside

    return model_beside(spec.folder, spec.loads[model].entry.id)


def _with(cell: Cell) -> str:
    if cell.variant.context:
        return f"behind {cell.variant.context} tokens of context"
    twice = " (the text twice)" if cell.variant.times == 2 else ""
    return f"with {cell.vectors} vectors{twice}"


def _model_identity(spec: Spec, lm: FrozenLM) -> dict[str, Any]:
    """What of a model decides rows; a folder's place does not."""
    identity = lm.identity
    local = Path(identity.id).is_dir()
    return {
        "id": None if local else identity.id,
        "revision": identity.revision,
        "fingerprint": identity.fingerprint,
        "layout": lm.layout,
        "dtype": lm.dtype_name,
        "attention": spec.study.attention,
    }


def _length_place(spec: Spec, cell: Cell) -> tuple[str | int, ...]:
    """Where a cell's length stands in the spec."""
    entry = spec.study.texts[cell.entry]
    if entry.lengths_up_to is not None:
        return ("texts", cell.entry, "lengths_up_to")
    if entry.lengths is not None and cell.length is not None:
        return ("texts", cell.entry, "lengths", entry.lengths.index(cell.length))
    if spec.study.lengths is not None and cell.length is not None:
        return ("lengths", spec.study.lengths.index(cell.length))
    return ("texts", cell.entry)


def _plain_options(entry: TextEntry) -> dict[str, Any]:
    return {key: value for key, value in entry.options.items() if key not in PATH_OPTIONS}


def _digest(content: object) -> str:
    """The first 32 digits of a SHA-256 over canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
