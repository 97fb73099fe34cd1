"""Keep a bounded number of evenly spaced entries of a series of unknown length."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Subsampled(Generic[T]):
    """Keeps every `stride`-th entry of a series, always fewer than `limit` entries.

    The stride starts at 1 and doubles whenever `limit` entries are kept, so at least `limit` / 2
    remain once the series is that long.

    Attributes:
        limit: the number of kept entries stays below this.
        stride: distance between the numbers of kept entries.
        kept: kept entries by their number in the series, in ascending order.

    Examples:
        >>> series = Subsampled[str](limit=4)
        >>> for number, letter in enumerate("abcdefghi"):
        ...     if series.wants(number):
        ...         series.keep(number, letter)
        >>> series.kept
        {0: 'a', 4: 'e', 8: 'i'}
    """

    limit: int
    stride: int = 1
    kept: dict[int, T] = field(default_factory=dict)

    def wants(self, number: int) -> bool:
        """Whether the entry with this number is on the stride."""
        return number % self.stride == 0

    def keep(self, number: int, entry: T) -> None:
        """Add a wanted entry, or replace the one with the same number."""
        self.kept[number] = entry
        if len(self.kept) == self.limit:
            self.stride *= 2
            self.kept = {number: old for number, old in self.kept.items() if self.wants(number)}
