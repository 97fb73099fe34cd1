"""What the store and the scheduling of a run know of a task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedTask:
    """What the store and the scheduling of a task need: a task without its text.

    Attributes:
        id, source, group, cost: of the task.
        recipe: name.
        needs: tasks whose vectors this one is computed from; None where it is crammed.
    """

    id: str
    source: str
    group: int | None
    cost: int
    recipe: str
    needs: tuple[str, ...] | None
