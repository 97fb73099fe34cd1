"""Draw samples from local text files."""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

from pydantic import Field

from memcram.texts.passages import Passage, Paths, cut_in_turn, distinct, files_in, read_utf8
from memcram.texts.sample import TextSample, Tokenize

# Characters read per token wanted; the tokens beyond are dropped.
_CHARS_PER_TOKEN = 12

_WORD = re.compile(r"(?<!\S)\S")
_FAR = 200  # a text without a word start in so many characters is treated as written without spaces
_GOLDEN = (5**0.5 - 1) / 2
_EXHAUSTED = "the files have no further position to begin at"


@dataclass(frozen=True, kw_only=True)
class Files:
    """Passages of local files, in turn from each, at seeded positions.

    Passage k of a file begins at the first word from character frac(u + k·φ) · span on; u is drawn
    from the seed and the file's name, and φ is the golden ratio, so k passages are about span/k
    apart for any k. span leaves `passage_chars` characters for the last passage, or half of a
    shorter file. Passages differ, but overlap if there are many.

    Attributes:
        path: files and folders; of a folder, its .txt files are read.
        passage_chars: characters per passage, or fewer at the end of a short file; a sample is the
            beginning of one.
    """

    path: Paths
    passage_chars: Annotated[int, Field(strict=True, ge=1)] = 32_768

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """See `TextSource.sample`; offsets count the characters of the file."""
        files = files_in(self.path, (".txt",))
        random.Random(f"{seed}").shuffle(files)
        return cut_in_turn(
            [_passages_of_file(file, self.passage_chars, seed) for file in files],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            limit=_EXHAUSTED,
        )


def sample_files(
    texts: Mapping[str, str], tokenize: Tokenize, *, samples: int, max_tokens: int, seed: int = 0
) -> list[TextSample]:
    """Draw different samples of up to `max_tokens` tokens from texts in memory.

    The texts take turns, sorted by name; positions are those of `Files`. Samples of a short text
    overlap, and have fewer tokens where the text ends.

    Args:
        texts: content by file name.
        tokenize: text to token ids.
        samples: number of samples.
        max_tokens: tokens of the longest sample.
        seed: the same seed draws the same samples.

    Raises:
        UsageError: `samples` or `max_tokens` is less than 1.
        TextError: the texts have too few positions to begin at, or a passage has no token.
    """
    chars = _CHARS_PER_TOKEN * max_tokens
    return cut_in_turn(
        [_passages(name, texts[name], chars, seed) for name in sorted(texts)],
        tokenize,
        samples=samples,
        n_tokens=max_tokens,
        limit=_EXHAUSTED,
        allow_shorter=True,
    )


def _passages_of_file(file: Path, passage_chars: int, seed: int) -> Iterator[Passage]:
    yield from _passages(file.name, read_utf8(file), passage_chars, seed)


def _passages(name: str, text: str, passage_chars: int, seed: int) -> Iterator[Passage]:
    if not text.strip():
        return
    start = random.Random(f"{seed}:{name}").random()
    span = max(len(text) - passage_chars, len(text) // 2)
    places = (_next_word(text, int((start + k * _GOLDEN) % 1 * span)) for k in count())
    yield from distinct(Passage(name, at, text[at : at + passage_chars]) for at in places)


def _next_word(text: str, at: int) -> int:
    """Find the start of the first word from `at` on, or of the text; `at` if spaces are rare."""
    found = _WORD.search(text, at, at + _FAR)
    if found is None and at + _FAR >= len(text):
        found = _WORD.search(text)
    return found.start() if found is not None else at
