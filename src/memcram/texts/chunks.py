"""Chunks of books the way the paper cut them, whatever the books come from."""

import random
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated

from pydantic import Field

from memcram.errors import UsageError
from memcram.texts.passages import Passage, cut_in_turn
from memcram.texts.sample import TextSample, Tokenize
from memcram.texts.sentences import sentence_starts

Words = Annotated[int, Field(strict=True, ge=1)]

_MIN_SENTENCES = 10
_TRIES = 64  # chunks in a row that gave nothing new, until a book counts as used up


@dataclass(frozen=True)
class Document:
    """A book: the name its samples are known by, and how to read it."""

    name: str
    read: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class BookSource(ABC):
    """Samples from the middle of book chunks.

    White space is collapsed to single spaces and the book is cut into sentences. A chunk is a
    run of sentences: its first is drawn uniformly, its last uniformly among those behind it,
    conditioned on the chunk's words. The second half of its sentences is the text, the first half
    its left context.

    Attributes:
        min_words, max_words: of a chunk, white-space separated; shorter books are left out.
        language: ISO 639-1 code, for the sentence boundaries.

    Source: arXiv 2502.13063. Deviations: docs/texts.md.
    """

    min_words: Words = 12_000
    max_words: Words = 25_000
    language: str = "en"

    def __post_init__(self) -> None:
        """Raises UsageError where no chunk could have as many words."""
        if self.max_words < self.min_words:
            raise UsageError(
                f"max_words: got {self.max_words}, allowed: min_words ({self.min_words}) or more"
            )

    @abstractmethod
    def documents(self) -> Sequence[Document]:
        """The books, in an order that depends on nothing but their names."""

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """As `TextSource.sample`; offsets count the characters after white space is collapsed."""
        documents = list(self.documents())
        random.Random(f"{seed}").shuffle(documents)
        return cut_in_turn(
            [self._chunks(document, seed) for document in documents],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            room=f"a book gives chunks of {self.min_words} to {self.max_words} words",
        )

    def _chunks(self, document: Document, seed: int) -> Iterator[Passage]:
        text = collapse(document.read())
        starts = sentence_starts(text, self.language)
        ends = _ends(text, starts, self.min_words, self.max_words)
        weights = [
            len(range_) / (len(starts) - _MIN_SENTENCES - start)
            for start, range_ in enumerate(ends)
        ]
        if not any(weights):
            return
        draw = random.Random(f"{seed}:{document.name}")
        summed = list(accumulate(weights))
        taken: set[int] = set()
        misses = 0
        while misses < _TRIES:
            (start,) = draw.choices(range(len(ends)), cum_weights=summed)
            end = draw.choice(ends[start])
            passage = second_half(document.name, text, starts[start : end + 1])
            misses = misses + 1 if passage.offset in taken else 0
            if not misses:
                taken.add(passage.offset)
                yield passage


def collapse(text: str) -> str:
    """The text with every run of white space as one space, and none at its ends."""
    return " ".join(text.split())


def second_half(name: str, text: str, starts: Sequence[int]) -> Passage:
    """The second half of a chunk's sentences, with the first half as its left context.

    Args:
        name: of the book.
        text: of the book, white space collapsed.
        starts: of the chunk's sentences, and the end of the last.
    """
    middle = starts[(len(starts) - 1) // 2]
    half = text[middle : starts[-1]]
    return Passage(
        name,
        middle + len(half) - len(half.lstrip()),
        half.strip(),
        text[starts[0] : middle].strip(),
    )


def _ends(text: str, starts: Sequence[int], least: int, most: int) -> list[range]:
    """For each sentence a chunk may begin with: the ends that give it `least` to `most` words."""
    sentences = len(starts) - 1
    words = [
        0,
        *accumulate(len(text[a:b].split()) for a, b in pairwise(starts)),
    ]
    return [
        range(
            max(start + _MIN_SENTENCES, bisect_left(words, words[start] + least)),
            bisect_right(words, words[start] + most),
        )
        for start in range(sentences - _MIN_SENTENCES + 1)
    ]
