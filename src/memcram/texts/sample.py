"""One text to measure with, where it comes from, and what a source of texts is."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Tokenize = Callable[[str], list[int]]


@dataclass(frozen=True)
class TextSample:
    """A stretch of a source, as tokens.

    Attributes:
        origin: file or data set it was taken from.
        offset: where it begins there, in characters.
        ids: (n,) token ids, without BOS.
        text: the characters that were tokenized.
        left: characters before it, where the source keeps a left context; else empty.
    """

    origin: str
    offset: int
    ids: Tensor
    text: str
    left: str = ""

    @property
    def id(self) -> str:
        """Names the sample by its content: the first 16 digits of a SHA-256."""
        return hashlib.sha256(f"{self.origin}\0{self.offset}\0{self.text}".encode()).hexdigest()[
            :16
        ]


class TextSource(Protocol):
    """Where samples come from; the same arguments always give the same samples."""

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """Draw samples of exactly `n_tokens` tokens.

        Sample i is the same text for any `n_tokens` that the source has room for, so that the
        lengths of a study are prefixes of the same texts; random words with a length of their own
        say so. Raises TextError where too few texts are long enough: how many were, how many were
        needed.
        """
