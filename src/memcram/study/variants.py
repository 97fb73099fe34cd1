"""What an ablation changes at a cell of the grid: what stands before the text, or the text."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.models.frozen_lm import FrozenLM
from memcram.study.spec import StudySpec

# Places between two solutions of a text, which are rows themselves.
_SHARES = tuple(tenth / 10 for tenth in range(1, 10))


@dataclass(frozen=True)
class Variant:
    """One way to measure the texts of a cell.

    Attributes:
        condition: its name in the results; empty for what the others are compared with.
        start: number of the start; each gives other seeds.
        times: how often the text stands there, one after the other.
        context: tokens of left context that stand in place of vectors; 0 for vectors.
        ends: two variants that are crammed, and on whose vectors' straight line these vectors lie.
        share: how far from the first of them to the second.
    """

    condition: str = ""
    start: int = 0
    times: int = 1
    context: int = 0
    ends: "tuple[Variant, Variant] | None" = None
    share: float = 0.0


def plain(study: StudySpec) -> list[Variant]:
    """Each text once, as it is."""
    return [Variant()]


def contexts(study: StudySpec) -> list[Variant]:
    """`[mem]`, and the last n tokens before the text in its place."""
    lengths = study.contexts or []
    return [Variant(), *(Variant(f"context={n}", context=n) for n in lengths)]


def repeats(study: StudySpec) -> list[Variant]:
    """The text once, and twice in a row."""
    return [Variant(), Variant("times=2", times=2)]


def starts(study: StudySpec) -> list[Variant]:
    """Several starts, and what lies between the first two solutions."""
    solutions = [Variant(f"start={i}", start=i) for i in range(study.starts or 0)]
    ends = (solutions[0], solutions[1])
    between = [Variant(f"line={share:g}", ends=ends, share=share) for share in _SHARES]
    return solutions + between


@dataclass(frozen=True)
class Context:
    """The tokens before a text, embedded as the model embeds any.

    Attributes:
        ids: (n,) the last of them.
    """

    ids: tuple[int, ...]
    needs: tuple[str, ...] = ()

    def vectors(self, lm: FrozenLM, mem_of: Callable[[str], Tensor]) -> Tensor:
        """(n, width)."""
        return lm.embed(torch.tensor(self.ids)).cpu()


@dataclass(frozen=True)
class Between:
    """A place on the straight line between two solutions.

    Attributes:
        needs: the tasks of the two.
        share: 0 at the first, 1 at the second.
    """

    needs: tuple[str, str]
    share: float

    def vectors(self, lm: FrozenLM, mem_of: Callable[[str], Tensor]) -> Tensor:
        """(K, width)."""
        first, second = (mem_of(task) for task in self.needs)
        return (1 - self.share) * first + self.share * second


Made = Context | Between
