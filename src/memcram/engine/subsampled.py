"""A long series, thinned to a bounded number of its entries."""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class Thinned(Generic[T]):
    """Entries of a series whose length is not known, evenly spread and fewer than `most`.

    Kept are the entries whose number is a multiple of the stride. It begins at 1 and doubles
    whenever `most` entries are kept, so that from then on at least `most` / 2 of them are.

    Attributes:
        most: entries never reach this many.
        stride: from one number kept to the next.
        kept: entries by number, rising.

    Example:
        >>> series = Thinned[str](most=4)
        >>> for number, letter in enumerate("abcdefghi"):
        ...     if series.wants(number):
        ...         series.keep(number, letter)
        >>> series.kept
        {0: 'a', 4: 'e', 8: 'i'}
    """

    most: int
    stride: int = 1
    kept: dict[int, T] = field(default_factory=dict)

    def wants(self, number: int) -> bool:
        """Whether the entry of this number would be kept."""
        return number % self.stride == 0

    def keep(self, number: int, entry: T) -> None:
        """Add an entry that is wanted; one of a number that is there takes its place."""
        self.kept[number] = entry
        if len(self.kept) == self.most:
            self.stride *= 2
            self.kept = {number: old for number, old in self.kept.items() if self.wants(number)}
