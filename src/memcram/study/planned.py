"""What the store and the scheduling of a run know of a task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CellLabel:
    """Name of a cell: what its tasks have in common.

    Attributes:
        model, condition, recipe, source: names, as in the columns of rows.
        length: tokens of each text; None where each has its own, or as many as fit.
        vectors: K.
    """

    model: str
    condition: str
    recipe: str
    source: str
    length: int | None
    vectors: int


@dataclass(frozen=True)
class PlannedTask:
    """A task without its text.

    Attributes:
        id, source, group, cost: of the task.
        recipe: name.
        needs: tasks whose vectors this one is computed from; None where it is crammed.
        cell: the first cell of the spec that it belongs to.
    """

    id: str
    source: str
    group: int | None
    cost: int
    recipe: str
    needs: tuple[str, ...] | None
    cell: CellLabel
