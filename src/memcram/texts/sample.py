"""A sampled text, and the protocol that every source of texts implements."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Tokenize = Callable[[str], list[int]]


@dataclass(frozen=True)
class TextSample:
    """A tokenized stretch of a source.

    Attributes:
        origin: file or data set row it was taken from.
        offset: its start in the origin, in characters.
        ids: (n_tokens,) token ids, without BOS.
        text: the characters that were tokenized; `ids` may cover only the first of them.
        left: the characters before it, if the source keeps a left context; otherwise empty.
    """

    origin: str
    offset: int
    ids: Tensor
    text: str
    left: str = ""

    @property
    def id(self) -> str:
        """First 16 hex digits of SHA-256 over origin, offset and text."""
        return hashlib.sha256(f"{self.origin}\0{self.offset}\0{self.text}".encode()).hexdigest()[
            :16
        ]


class TextSource(Protocol):
    """A source of samples; the same arguments always give the same samples."""

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """Draw samples of exactly `n_tokens` tokens.

        Sample i is the same text for every `n_tokens`, so the lengths of a study are prefixes of
        the same texts.

        Raises:
            TextError: fewer than `samples` texts have `n_tokens` tokens.
        """
