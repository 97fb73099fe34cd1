"""Draw chunks of books as the paper did, from local files or any other collection."""

import random
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, pairwise
from typing import Annotated

from pydantic import Field

from memcram.errors import UsageError
from memcram.texts.passages import Passage, Paths, cut_in_turn, distinct, files_in, read_utf8
from memcram.texts.sample import TextSample, Tokenize
from memcram.texts.sentences import sentence_starts

Words = Annotated[int, Field(strict=True, ge=1)]

_MIN_SENTENCES = 10


@dataclass(frozen=True)
class Document:
    """A book: the origin of its samples, and a function that reads its text."""

    name: str
    read: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class BookSource(ABC):
    """Samples from the middle of book chunks.

    Whitespace is collapsed to single spaces and the book is split into sentences. A chunk is a
    run of sentences: the first is drawn uniformly, the last uniformly from those after it,
    conditioned on the chunk's number of words. The second half of the sentences is the text, the
    first half its left context.

    Attributes:
        min_words, max_words: whitespace-separated words of a chunk; shorter books are skipped.
        language: ISO 639-1 code used to find sentence boundaries.

    Source: arXiv 2502.13063. Deviations: docs/texts.md.
    """

    min_words: Words = 12_000
    max_words: Words = 25_000
    language: str = "en"

    def __post_init__(self) -> None:
        """Raise UsageError if `max_words` is less than `min_words`."""
        if self.max_words < self.min_words:
            raise UsageError(
                argument="max_words",
                got=self.max_words,
                allowed=f"min_words ({self.min_words}) or more",
            )

    @abstractmethod
    def documents(self) -> Sequence[Document]:
        """The books, in an order that depends only on their names."""

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """See `TextSource.sample`; offsets count characters after whitespace is collapsed."""
        documents = list(self.documents())
        random.Random(f"{seed}").shuffle(documents)
        return cut_in_turn(
            [self._chunks(document, seed) for document in documents],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            limit=f"a book gives chunks of {self.min_words} to {self.max_words} words",
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

        def chunk() -> Passage:
            (start,) = draw.choices(range(len(ends)), cum_weights=summed)
            end = draw.choice(ends[start])
            return second_half(document.name, text, starts[start : end + 1])

        yield from distinct(chunk() for _ in count())


@dataclass(frozen=True, kw_only=True)
class BookChunks(BookSource):
    """Chunks of local books; see `BookSource`.

    Attributes:
        path: files and folders; of a folder, its .txt files are read.
    """

    path: Paths

    def documents(self) -> Sequence[Document]:
        """One document per file, sorted by name."""
        return [
            Document(file.name, partial(read_utf8, file)) for file in files_in(self.path, (".txt",))
        ]


def collapse(text: str) -> str:
    """Replace every run of whitespace by one space, and strip both ends."""
    return " ".join(text.split())


def second_half(name: str, text: str, starts: Sequence[int]) -> Passage:
    """Return the second half of a chunk's sentences, with the first half as left context.

    Args:
        name: the book's name.
        text: the whole book, whitespace collapsed.
        starts: offsets of the chunk's sentences, followed by the end of the last one.
    """
    middle = starts[(len(starts) - 1) // 2]
    half = text[middle : starts[-1]]
    return Passage(
        name,
        middle + len(half) - len(half.lstrip()),
        half.strip(),
        text[starts[0] : middle].strip(),
    )


def _ends(text: str, starts: Sequence[int], min_words: int, max_words: int) -> list[range]:
    """For each possible first sentence, the ends that give the chunk an allowed word count."""
    sentences = len(starts) - 1
    words = [0, *accumulate(len(text[a:b].split()) for a, b in pairwise(starts))]
    return [
        range(
            max(start + _MIN_SENTENCES, bisect_left(words, words[start] + min_words)),
            bisect_right(words, words[start] + max_words),
        )
        for start in range(sentences - _MIN_SENTENCES + 1)
    ]
