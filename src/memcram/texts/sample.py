"""One text to measure with, and where it comes from."""

import hashlib
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TextSample:
    """A stretch of a source, as tokens.

    Attributes:
        origin: file or data set it was taken from.
        offset: where it begins there, in characters.
        ids: (n,) token ids, without BOS.
        text: the characters that were tokenized.
    """

    origin: str
    offset: int
    ids: Tensor
    text: str

    @property
    def id(self) -> str:
        """Names the sample by its content: the first 16 digits of a SHA-256."""
        return hashlib.sha256(f"{self.origin}\0{self.offset}\0{self.text}".encode()).hexdigest()[
            :16
        ]
