"""Interface of an optimiser."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Optimiser(Protocol):
    """Update rule for the parameters of a batch of texts, one row per text.

    Every row has its own step count, and no row may depend on another.
    """

    def with_steps(self, steps: int) -> "Optimiser":
        """The same rule for a budget of `steps`; a decay ends there."""

    def init(self, parameter: Tensor) -> Any:
        """State for one text's parameter (any shape), before the first step.

        Returns:
            A dataclass of tensors.
        """

    def step(self, rows: Tensor, gradient: Tensor, state: Any, clocks: Sequence[int]) -> None:
        """Update `rows` and `state` in place.

        Args:
            rows: (slot, ...) parameters.
            gradient: same shape.
            state: as `init` returns it, stacked along the slots.
            clocks: number of this step for each slot, counting from 1.
        """
