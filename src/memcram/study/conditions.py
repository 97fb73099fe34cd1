"""Conditions of an ablation: the ways in which a study measures each text of a cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memcram.models.frozen_lm import FrozenLM

# Points between two solutions of a text; the solutions themselves are rows too.
_FRACTIONS = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Condition:
    """One way to measure the texts of a cell.

    Attributes:
        name: stored in the column `condition`; empty for the baseline.
        init: number of the random init; each has its own seeds.
        times: how often the text occurs in a row; 1 is once.
        context: tokens of left context that replace the vectors; 0 keeps the vectors.
        ends: two crammed conditions; the vectors of this one are interpolated between theirs.
            None: this one is crammed itself.
        fraction: position between them: 0 is the first, 1 the second.
        prefix_recipe: trains K positions of keys and values (`PrefixLM`) in place of K vectors,
            instead of the study's recipes; None trains vectors.
    """

    name: str = ""
    init: int = 0
    times: int = 1
    context: int = 0
    ends: "tuple[Condition, Condition] | None" = None
    fraction: float = 0.0
    prefix_recipe: str | None = None

    @property
    def is_crammed(self) -> bool:
        """Whether the vectors are optimised, not taken from elsewhere."""
        return not self.context and self.ends is None


def baseline(_: object) -> list[Condition]:
    """Return a single condition: each text once, unchanged."""
    return [Condition()]


def contexts(lengths: Sequence[int]) -> list[Condition]:
    """Return `[mem]`, and n tokens of left context instead of it, for each n of `lengths`."""
    return [Condition(), *(Condition(f"context={n}", context=n) for n in lengths)]


def repeats(_: object) -> list[Condition]:
    """Return the text once, and twice in a row."""
    return [Condition(), Condition("times=2", times=2)]


def starts(count: int) -> list[Condition]:
    """Return `count` random inits, and the straight line between the first two solutions."""
    solutions = [Condition(f"start={i}", init=i) for i in range(count)]
    ends = (solutions[0], solutions[1])
    line = [Condition(f"line={f:g}", ends=ends, fraction=f) for f in _FRACTIONS]
    return solutions + line


def prefixes(recipes: Sequence[str]) -> list[Condition]:
    """Return `[mem]`, and a prefix of keys and values trained with each of `recipes`."""
    return [Condition(), *(Condition("prefix", prefix_recipe=name) for name in recipes)]


@dataclass(frozen=True)
class ContextVectors:
    """Embeddings of the tokens before a text.

    Attributes:
        ids: (n,) those tokens.
        needs: tasks whose vectors are needed: none.
    """

    ids: tuple[int, ...]
    needs: tuple[str, ...] = ()

    def vectors(self, lm: FrozenLM, mem_of: Callable[[str], Tensor]) -> Tensor:
        """Compute the vectors, (n, width)."""
        return lm.embed(torch.tensor(self.ids)).cpu()

    def identity(self) -> dict[str, Any]:
        """Return the content for the hash of a task; a change gives all such tasks new ids."""
        return {"ids": self.ids, "needs": self.needs}


@dataclass(frozen=True)
class InterpolatedVectors:
    """A point on the straight line between two solutions.

    Attributes:
        needs: the tasks of the two solutions.
        fraction: 0 at the first, 1 at the second.
    """

    needs: tuple[str, str]
    fraction: float

    def vectors(self, lm: FrozenLM, mem_of: Callable[[str], Tensor]) -> Tensor:
        """Compute the vectors, (K, width)."""
        first, second = (mem_of(task) for task in self.needs)
        return (1 - self.fraction) * first + self.fraction * second

    def identity(self) -> dict[str, Any]:
        """Return the content for the hash of a task; a change gives all such tasks new ids."""
        return {"needs": self.needs, "share": self.fraction}


DerivedVectors = ContextVectors | InterpolatedVectors
"""Vectors that are computed, not crammed."""
