"""Expand a spec into tasks: each is one text at one length, K, recipe and model."""

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memcram.compression.initial import InitialVectors, initial_vectors
from memcram.engine.batch import SEED_STRIDE, no_tokens
from memcram.engine.compute import check_compile, choose_compute_dtype
from memcram.errors import TextError, UsageError
from memcram.files import is_file, is_folder
from memcram.models.accounting import room
from memcram.models.frozen_lm import FrozenLM
from memcram.models.gguf import GGUF
from memcram.models.modes import DTYPE_NAMES
from memcram.models.sources import nearest_model
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies.token_budget import TokenBudget
from memcram.study.cells import Cell, cell_samples, cells, inputs_shown, label_of, length_key
from memcram.study.conditions import ContextVectors, DerivedVectors, InterpolatedVectors
from memcram.study.horizon import longest_sample
from memcram.study.kinds import KINDS
from memcram.study.planned import CellLabel, PlannedTask
from memcram.study.probe import ProbeInputs, ProbePlan
from memcram.study.readers import Readers
from memcram.study.spec import PATH_OPTIONS, Spec, TextEntry
from memcram.texts.sample import TextSample
from memcram.texts.sources import make_source

# Between the seeds of a text's inits; a prime, so that no two texts share a seed.
_INIT_STRIDE = 15_485_863


@dataclass(frozen=True)
class Task:
    """One text to cram and measure.

    Attributes:
        id: hash of everything that determines the row, and of nothing else.
        source: name of the text entry.
        condition: value of the column `condition`.
        recipe: with the budget, and the strategy of the study's kind.
        sample: the text.
        ids: (N,) tokens passed to the engine.
        bos_in_text: the first of them is the tokenizer's BOS.
        is_prefix: they are a prefix of the sample, as are those of its other lengths.
        vectors: K.
        seed: of the init.
        group: number shared by the texts of one group; None without a group.
        cost: token-steps if the whole budget is used; an upper bound.
        cell: the cell that it belongs to.
        derived: how the vectors are computed where nothing is crammed; else None.
        init: (K, width) vectors to start from; None: the recipe's init.
        prefix: (p,) visible tokens that are fed between the vectors and the text.
        probe: what the probe of the text needs; None in other kinds.
        kv_prefix: K where the vectors are positions of keys and values (`PrefixLM`), else 0.
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
    cell: CellLabel
    derived: DerivedVectors | None = None
    init: Tensor | None = None
    prefix: Tensor = field(default_factory=no_tokens)
    probe: ProbeInputs | None = None
    kv_prefix: int = 0

    def positions(self, lm: FrozenLM) -> int:
        """Input positions under teacher forcing, with the vectors that are crammed."""
        return lm.input_length(self.vectors + len(self.prefix), len(self.ids))

    def planned(self) -> PlannedTask:
        """Return the task without its text."""
        needs = None if self.derived is None else self.derived.needs
        name = self.recipe.name
        return PlannedTask(self.id, self.source, self.group, self.cost, name, needs, self.cell)


def max_token_steps(recipe: Recipe, positions: int) -> int:
    """Return the maximum token-steps of a text, with `positions` positions per forward pass."""
    strategy = recipe.strategy
    most = (strategy.steps + 1) * positions  # the last measurement takes no step
    if isinstance(strategy, TokenBudget):
        most = min(most, strategy.token_steps + positions - 1)
    return most


def study_recipe(spec: Spec, name: str) -> Recipe:
    """Return a recipe with the spec's budget and the strategy of the study's kind."""
    recipe = get_recipe(name)
    if spec.study.token_steps is not None:
        recipe = recipe.with_token_steps(spec.study.token_steps)
    if spec.study.steps is not None:
        recipe = recipe.with_steps(spec.study.steps)
    return KINDS[spec.study.kind].recipe(recipe)


def deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings of a recipe that determine a row."""
    # `horizon` is the strategy of other kinds, `source` a remark.
    return {key: value for key, value in settings.items() if key not in ("horizon", "source")}


def expand(spec: Spec, model: int, lm: FrozenLM) -> list[Task]:
    """List all tasks of one model of the spec, each once.

    Args:
        spec: the study's spec.
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
    """The samples of each source, drawn once at the longest length, and their tasks."""

    def __init__(self, spec: Spec, model: int, lm: FrozenLM) -> None:
        self.spec = spec
        self.lm = lm
        self._load = spec.loads[model]
        self._model = _model_identity(spec, lm)
        try:
            computed = choose_compute_dtype(lm, spec.study.compute_dtype or lm.dtype)
        except UsageError as error:
            raise spec.error_from(("compute_dtype",), error) from error
        if spec.study.compile:
            try:
                check_compile(lm, computed)
            except UsageError as error:
                raise spec.error_from(("compile",), error) from error
        self._compute_dtype = None if computed == lm.dtype else DTYPE_NAMES[computed]
        self._probe = ProbePlan(spec, lm) if KINDS[spec.study.kind].probes else None
        self._tail = 0 if self._probe is None else self._probe.continuation
        self._initial: dict[tuple[str, int], InitialVectors] = {}
        self._readers = Readers(lm)
        self._longest: dict[str, int] = {}
        self._count: dict[str, int] = {}
        self._drawn: dict[str, list[TextSample]] = {}
        self._tasks: dict[Cell, list[Task]] = {}
        self._left: dict[str, list[int]] = {}
        for cell in cells(spec):
            self._check_room(cell)
            self._read_init(cell)
            key = self._source_key(cell.entry)
            tokens = cell.prefix + self._max_tokens(cell) + self._tail
            self._longest[key] = max(self._longest.get(key, 0), tokens)
            self._count[key] = max(self._count.get(key, 0), cell_samples(spec, cell))

    def tasks(self, cell: Cell) -> list[Task]:
        """List the tasks of a cell; those that share parameters have the same group number."""
        if cell not in self._tasks:
            self._tasks[cell] = list(self._make_tasks(cell))
        return self._tasks[cell]

    def _derived(self, cell: Cell) -> list[DerivedVectors | None]:
        """How the vectors of each text are computed; None where they are crammed."""
        condition = cell.condition
        samples = self._samples(cell)
        if condition.ends is not None:
            first, second = (self.tasks(replace(cell, condition=end)) for end in condition.ends)
            pairs = zip(first, second, strict=True)
            return [InterpolatedVectors((a.id, b.id), condition.fraction) for a, b in pairs]
        if condition.context:
            return [ContextVectors(tuple(self._context(cell, sample))) for sample in samples]
        return [None] * len(samples)

    def _context(self, cell: Cell, sample: TextSample) -> list[int]:
        """Return the last tokens before a text."""
        if sample.id not in self._left:
            self._left[sample.id] = self.lm.tokenize(sample.left) if sample.left else []
        left, wanted = self._left[sample.id], cell.condition.context
        if len(left) < wanted:
            key = KINDS[self.spec.study.kind].key
            raise self.spec.error(
                (str(key), self.spec.study.of_kind(key).index(wanted)),
                f"got {wanted}, but a text of {self.spec.study.texts[cell.entry].name!r} has "
                f"{len(left)} tokens of left context",
            )
        return left[-wanted:]

    def _make_tasks(self, cell: Cell) -> Iterator[Task]:
        recipe = study_recipe(self.spec, cell.recipe)
        texts = list(enumerate(zip(self._samples(cell), self._derived(cell), strict=True)))
        grouped = recipe.group_size is not None and cell.condition.ends is None
        size = recipe.group_size or 1
        for first in range(0, len(texts), size):
            found = [
                self._make_task(cell, recipe, i, sample, derived)
                for i, (sample, derived) in texts[first : first + size]
            ]
            together = _digest([content for _, content in found]) if grouped else None
            group = None if together is None else int(together[:15], 16)
            for task, content in found:
                yield replace(task, id=_digest({"task": content, "group": together}), group=group)

    def _make_task(
        self, cell: Cell, recipe: Recipe, i: int, sample: TextSample, derived: DerivedVectors | None
    ) -> tuple[Task, dict[str, Any]]:
        """Make a task without its id and group, and the content that its id is a hash of."""
        ids = self._text(cell, recipe, i, sample)
        positions = self._readers.of(cell.kv_prefix).input_length(cell.inputs, len(ids))
        initial = self._initial.get((cell.recipe, cell.vectors)) if derived is None else None
        label = label_of(self.spec, self._load, cell)
        task = Task(
            id="",
            source=label.source,
            condition=label.condition,
            recipe=recipe,
            sample=sample,
            ids=ids,
            bos_in_text=self._has_bos(recipe),
            is_prefix=cell.condition.times == 1,
            vectors=cell.vectors,
            seed=self.spec.study.seed + SEED_STRIDE * i + _INIT_STRIDE * cell.condition.init,
            group=None,
            cost=positions if derived else max_token_steps(recipe, positions),
            cell=label,
            derived=derived,
            init=None if initial is None else initial.mems[0],
            prefix=sample.ids[: cell.prefix],
            probe=self._probed(cell, i, len(ids) - self._has_bos(recipe)),
            kv_prefix=cell.kv_prefix,
        )
        return task, self._content(cell, task, None if initial is None else initial.sha256)

    def _content(self, cell: Cell, task: Task, init: str | None) -> dict[str, Any]:
        """Collect everything that determines a row, as JSON values; no path on a disk."""
        entry = self.spec.study.texts[cell.entry]
        optional = {
            "condition": task.condition,
            "made": task.derived and task.derived.identity(),
            "compute_dtype": self._compute_dtype,
            "compile": self.spec.study.compile,
            "init": init,
            "prefix": task.prefix.tolist(),
            "probe": self._probe and task.probe and self._probe.identity(task.probe),
        }
        return {
            "version": 1,
            "kind": self.spec.study.kind,
            "model": self._model,
            "recipe": deciding(task.recipe.settings()),
            "source": [entry.source, _plain_options(entry)],
            "text": task.sample.id,
            "ids": task.ids.tolist(),
            "vectors": task.vectors,
            "seed": task.seed,
        } | {key: value for key, value in optional.items() if value}

    def _text(self, cell: Cell, recipe: Recipe, i: int, sample: TextSample) -> Tensor:
        """Return the (N,) tokens of a text, with the tokenizer's BOS if the recipe asks for it."""
        cap = self.spec.study.texts[cell.entry].lengths_up_to
        if cap is not None:
            # Drawn by the sample's number, so that more samples leave the others unchanged.
            length = random.Random(f"length:{self.spec.study.seed}:{i}").randint(2, cap)
        else:
            length = cell.length or self._max_tokens(cell)
        crammed = sample.ids[cell.prefix :]
        if self._has_bos(recipe):
            text = crammed[: length - 1].repeat(cell.condition.times)
            return torch.cat([torch.tensor([self.lm.bos_id]), text])
        return crammed[:length].repeat(cell.condition.times)

    def _probed(self, cell: Cell, i: int, offered: int) -> ProbeInputs | None:
        """Return what the probe of a text needs; None in other kinds."""
        if self._probe is None:
            return None
        return self._probe.inputs(self._samples(cell), i, offered)

    def _has_bos(self, recipe: Recipe) -> bool:
        return recipe.bos_in_text and self.lm.adds_bos

    def _samples(self, cell: Cell) -> list[TextSample]:
        """Return the texts of a cell; those of each source are drawn once."""
        i = cell.entry
        key = self._source_key(i)
        if key not in self._drawn:
            source = make_source(self.spec.study.texts[i].source, **self.spec.options(i))
            try:
                self._drawn[key] = source.sample(
                    self.lm.tokenize,
                    samples=self._count[key],
                    n_tokens=self._longest[key],
                    seed=self.spec.study.seed,
                )
            except TextError as error:
                raise self.spec.error_from(("texts", i), error) from error
        return self._drawn[key][: cell_samples(self.spec, cell)]

    def _source_key(self, i: int) -> str:
        entry = self.spec.study.texts[i]
        return json.dumps([entry.source, entry.options], sort_keys=True, default=str)

    def _max_tokens(self, cell: Cell) -> int:
        entry = self.spec.study.texts[cell.entry]
        vectors, lm = cell.vectors or cell.condition.context, self._readers.of(cell.kv_prefix)
        given = entry.lengths_up_to or cell.length
        return given or longest_sample(lm, vectors, cell.prefix) - self._tail

    def _read_init(self, cell: Cell) -> None:
        """Read the vectors that the texts of a cell start from."""
        init, key = self.spec.study.init, (cell.recipe, cell.vectors)
        if init is None or not cell.vectors or key in self._initial:
            return
        path, recipe = self.spec.folder / init, get_recipe(cell.recipe)
        if not is_file(path):
            raise self.spec.error(("init",), got=init, allowed="an archive next to the spec")
        try:
            self._initial[key] = initial_vectors(path, self.lm, recipe, cell.vectors)
        except UsageError as error:
            raise self.spec.error_from(("init",), error) from error

    def _check_room(self, cell: Cell) -> None:
        """Refuse a cell that exceeds the model's positions, or leaves nothing to predict."""
        recipe = get_recipe(cell.recipe)
        key = length_key(self.spec, cell)
        try:
            n = self._max_tokens(cell) * cell.condition.times
        except UsageError as error:
            raise self.spec.error_from((error.argument or "vectors",), error) from error
        if cell.prefix and self._has_bos(recipe):
            raise self.spec.error(
                ("prefix_tokens",),
                f"got {cell.prefix}, but {recipe.name!r} begins each text with a BOS",
                allowed="0, or bos_in_text=false in the recipe",
            )
        if n <= recipe.first_token_given:
            raise self.spec.error(key, got=n, allowed=f"2 or more for {recipe.name!r}")
        lm, positions = self._readers.of(cell.kv_prefix), self.lm.max_positions
        most = room(positions, cell.inputs + self._tail, len(lm.prefix))
        if most is not None and n > most:
            raise self.spec.error(
                key,
                f"got {n} tokens {inputs_shown(cell)}",
                allowed=f"at most {max(0, most)} ({self.lm.identity.id} has {positions} positions)",
            )


def resolve_model(spec: Spec, model: int) -> str:
    """Return the name to load a model by: a folder next to the spec, or the name itself."""
    return nearest_model(spec.folder, spec.loads[model].entry.id)


def resolve_config(spec: Spec, model: int) -> str | None:
    """Return the folder of a model's original config: one next to the spec, or as given."""
    config = spec.loads[model].entry.config
    near = None if config is None else spec.folder / config
    return str(near) if near is not None and is_folder(near) else config


def _model_identity(spec: Spec, lm: FrozenLM) -> dict[str, Any]:
    """Collect what determines rows of a model; the path of a folder does not."""
    identity = lm.identity
    path = Path(identity.id)
    local = is_folder(path) or GGUF.matches(path)
    return {
        "id": None if local else identity.id,
        "revision": identity.revision,
        "fingerprint": identity.fingerprint,
        "layout": lm.layout,
        "dtype": lm.dtype_name,
        "attention": spec.study.attention,
    }


def _plain_options(entry: TextEntry) -> dict[str, Any]:
    return {key: value for key, value in entry.options.items() if key not in PATH_OPTIONS}


def _digest(content: object) -> str:
    """Return the first 32 hex digits of a SHA-256 over canonical JSON."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
