"""Samples from a person's own files."""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from memcram.errors import TextError
from memcram.texts.passages import Passage, Paths, check_name, cut_in_turn, files_in, read_utf8
from memcram.texts.sample import TextSample, Tokenize

# Characters read for each token wanted; the tokens beyond are dropped.
_CHARS_PER_TOKEN = 12

_WORD = re.compile(r"(?<!\S)\S")
_FAR = 200  # characters to the next word, from where on a text is taken to have no blanks
_GOLDEN = (5**0.5 - 1) / 2
_TRIES = 64  # places in a row that gave nothing new, until a text counts as used up


@dataclass(frozen=True, kw_only=True)
class Files:
    """Passages of a person's own files, in turn from each, at seeded places.

    Place k of a file is the first word from character frac(u + k·φ) · span on, u drawn from the
    seed and the file's name, φ the golden ratio: however many places are taken, they lie about
    span/k apart. span leaves `passage_chars` characters behind it, or half of a shorter file.
    Passages are different, but overlap where places are many.

    Attributes:
        path: files, and folders whose .txt files are taken.
        passage_chars: characters of a passage, where the file has as many; a sample is the
            beginning of one.
    """

    path: Paths
    passage_chars: Annotated[int, Field(strict=True, ge=1)] = 32_768

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """As `TextSource.sample`; characters are the file's own."""
        files = files_in(self.path, (".txt",))
        random.Random(f"{seed}").shuffle(files)
        return cut_in_turn(
            [self._passages(file, seed) for file in files],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            room="the files have no further place to begin at",
        )

    def _passages(self, file: Path, seed: int) -> Iterator[Passage]:
        text = read_utf8(file)
        if not text.strip():
            return
        start = random.Random(f"{seed}:{file.name}").random()
        span = max(len(text) - self.passage_chars, len(text) // 2)
        taken: set[int] = set()
        misses = 0
        for k in count():
            at = _next_word(text, int((start + k * _GOLDEN) % 1 * span))
            misses = misses + 1 if at in taken else 0
            if misses == _TRIES:
                return
            if not misses:
                taken.add(at)
                yield Passage(file.name, at, text[at : at + self.passage_chars])


def sample_files(
    texts: Mapping[str, str],
    tokenize: Callable[[str], list[int]],
    *,
    samples: int,
    max_tokens: int,
    seed: int = 0,
) -> list[TextSample]:
    """Draw stretches that begin at a word, in turn from each text, at seeded places.

    No two are the same, but they overlap where places are many. A text too short for a stretch and
    places before it is begun in its first half, and its stretches are shorter than `max_tokens`.

    Args:
        texts: content by file name.
        tokenize: text to token ids.
        samples: how many.
        max_tokens: longest sample.
        seed: the same seed draws the same samples.

    Raises:
        TextError: a text has no token to predict, or too few places to begin at.
    """
    names = sorted(texts)
    draw = random.Random(seed)
    window = _CHARS_PER_TOKEN * max_tokens
    taken: dict[str, set[int]] = {name: set() for name in names}
    found = []
    for i in range(samples):
        name = names[i % len(names)]
        text = texts[name]
        span = max(len(text) - window, len(text) // 2)
        tries = (_word_start(text, draw.randint(0, span)) for _ in range(_TRIES))
        offset = next((at for at in tries if at not in taken[name]), None)
        if offset is None:
            raise TextError(
                f"TEXT: {name!r} has {len(taken[name])} places to begin at, and more stretches "
                "than that are to be drawn; ask for fewer samples, or take a longer text"
            )
        taken[name].add(offset)
        stretch = text[offset : offset + window]
        ids = tokenize(stretch)[:max_tokens]
        if not ids:
            raise TextError(f"TEXT: {name!r} gives no token at character {offset}")
        found.append(TextSample(name, offset, torch.tensor(ids, dtype=torch.long), stretch))
    return found


def text_files(path: Path) -> list[Path]:
    """The file itself, or the .txt files of a folder, by name.

    Raises:
        TextError: there is no .txt file in the folder, or a name is not UTF-8.
    """
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise TextError(f"TEXT: the folder {str(path)!r} has no .txt file")
    for file in files:
        check_name(str(file))
    return files


def _word_start(text: str, offset: int) -> int:
    """The first place from `offset` on that begins a word; the text's start if there is none."""
    if offset == 0:
        return 0
    blank = min((at for at in (text.find(c, offset) for c in " \n") if at >= 0), default=-1)
    return 0 if blank < 0 or blank + 1 >= len(text) else blank + 1


def _next_word(text: str, at: int) -> int:
    """Where the first word from `at` on begins, or the text's first; `at` where blanks are rare."""
    found = _WORD.search(text, at, at + _FAR)
    if found is None and at + _FAR >= len(text):
        found = _WORD.search(text)
    return found.start() if found is not None else at
