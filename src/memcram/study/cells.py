"""List the cells of a spec: the tasks that differ in the text sample only."""

from collections import Counter
from dataclasses import dataclass

from memcram.study.conditions import Condition
from memcram.study.kinds import KINDS
from memcram.study.planned import CellLabel
from memcram.study.progress import CellProgress
from memcram.study.spec import KeyPath, Load, Spec


@dataclass(frozen=True)
class Cell:
    """Tasks of a spec that differ in the text sample only.

    Attributes:
        entry: index of the text entry.
        recipe: name.
        vectors: K; 0 where a left context replaces the vectors.
        length: tokens of each text; None where each has its own, or as many as fit.
        condition: how an ablation measures the texts.
        prefix: visible tokens before each text.
    """

    entry: int
    recipe: str
    vectors: int
    length: int | None
    condition: Condition
    prefix: int = 0

    @property
    def kv_prefix(self) -> int:
        """K where the vectors are positions of keys and values, else 0."""
        return self.vectors if self.condition.prefix_recipe else 0

    @property
    def inputs(self) -> int:
        """Vectors and visible tokens that are fed before the text."""
        return (self.vectors or self.condition.context) + self.prefix


def cells(spec: Spec) -> list[Cell]:
    """List the cells for one model, without duplicates, in the spec's order."""
    study = spec.study
    conditions = KINDS[study.kind].conditions_of(study)
    prefix = study.prefix_tokens
    found = []
    for recipe in study.recipes:
        for i, entry in enumerate(study.texts):
            own = entry.lengths_up_to is not None
            lengths = entry.lengths or study.lengths
            for k in entry.vectors or study.vectors:
                for length in [None] if own or lengths is None else lengths:
                    found += [
                        Cell(
                            i,
                            condition.prefix_recipe or recipe,
                            0 if condition.context else k,
                            length,
                            condition,
                            prefix,
                        )
                        for condition in conditions
                    ]
    return list(dict.fromkeys(found))


def cell_samples(spec: Spec, cell: Cell) -> int:
    """Return the number of texts of a cell."""
    return spec.study.texts[cell.entry].samples or spec.study.samples


def label_of(spec: Spec, load: Load, cell: Cell) -> CellLabel:
    """Return the name of a cell of one model."""
    return CellLabel(
        model=load.entry.id,
        condition=cell.condition.name or load.condition,
        recipe=cell.recipe,
        source=spec.study.texts[cell.entry].name,
        length=cell.length,
        vectors=cell.vectors,
    )


def expected_cells(spec: Spec, model: int) -> list[CellProgress]:
    """List the cells of a model that is not loaded yet; duplicates of a text are counted."""
    texts: Counter[CellLabel] = Counter()
    for cell in cells(spec):
        texts[label_of(spec, spec.loads[model], cell)] += cell_samples(spec, cell)
    return [CellProgress(model, label, count) for label, count in texts.items()]


def length_key(spec: Spec, cell: Cell) -> KeyPath:
    """Return the key of the spec that gives a cell's length."""
    entry = spec.study.texts[cell.entry]
    if entry.lengths_up_to is not None:
        return ("texts", cell.entry, "lengths_up_to")
    if entry.lengths is not None and cell.length is not None:
        return ("texts", cell.entry, "lengths", entry.lengths.index(cell.length))
    if spec.study.lengths is not None and cell.length is not None:
        return ("lengths", spec.study.lengths.index(cell.length))
    return ("texts", cell.entry)


def inputs_shown(cell: Cell) -> str:
    """Describe what is fed before the texts of a cell, for errors."""
    visible = f", after {cell.prefix} visible tokens" if cell.prefix else ""
    if cell.condition.context:
        return f"after {cell.condition.context} tokens of context{visible}"
    twice = " (the text twice)" if cell.condition.times == 2 else ""
    return f"with {cell.vectors} vectors{twice}{visible}"
