"""Which texts count as equally long: the one place where lengths are grouped."""

from bisect import bisect_right
from dataclasses import dataclass

from memcram.errors import UsageError


@dataclass(frozen=True)
class LengthGroups:
    """How texts are put into groups of one length.

    A text is grouped by the length that was asked for. Sources whose texts have a length of their
    own, such as random words in `kuratov2025`, are named in `realised` and grouped by the tokens
    they really have: each token count by itself, as the paper does, or in bins.

    Attributes:
        realised: sources grouped by their real length.
        edges: of the bins, in tokens, ascending; empty for no bins. A bin is named by its lower
            edge, so that every text of a group has at least the tokens that the group is named by;
            texts below the first edge are group 0.

    Raises:
        UsageError: the edges do not ascend from at least 1.

    >>> LengthGroups(frozenset({"random"}), edges=(8, 16, 32)).of("random", 64, 20)
    16
    >>> LengthGroups(frozenset({"random"}), edges=(8, 16, 32)).of("books", 64, 64)
    64
    """

    realised: frozenset[str] = frozenset()
    edges: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check the edges."""
        if list(self.edges) != sorted({edge for edge in self.edges if edge >= 1}):
            raise UsageError(f"edges: got {list(self.edges)}, allowed: ascending, from 1 on")

    def of(self, source: str, length: int, tokens: int) -> int:
        """Name of the group, in tokens.

        Args:
            source: of the text.
            length: tokens asked for.
            tokens: tokens it has.
        """
        if source not in self.realised:
            return length
        if not self.edges:
            return tokens
        place = bisect_right(self.edges, tokens)
        return self.edges[place - 1] if place else 0
