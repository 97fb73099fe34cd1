"""Draw texts of random words, which a model cannot predict."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

from pydantic import Field

from memcram.errors import TextError
from memcram.texts.passages import Passage, cut_in_turn
from memcram.texts.sample import TextSample, Tokenize

Count = Annotated[int, Field(strict=True, ge=1)]


@dataclass(frozen=True, kw_only=True)
class RandomWords:
    """Words drawn uniformly with replacement from a frequency list, joined by single spaces.

    Attributes:
        path: a word list, see `read_words`; None: the packaged one (20,000 words of English
            books).
        top: draw from the first `top` words of the list; None: from all.
        words: words drawn per text; a sample is the beginning of one.
    """

    path: Path | None = None
    top: Count | None = None
    words: Count = 8_192

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """See `TextSource.sample`; the origin is the list's file name, the offset 0."""
        vocabulary = self._vocabulary()
        origin = "words.txt" if self.path is None else self.path.name
        return cut_in_turn(
            [self._text(vocabulary, origin, f"{seed}:{i}") for i in range(samples)],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            limit=f"each has {self.words} words",
        )

    def _vocabulary(self) -> tuple[str, ...]:
        if self.path is not None:
            return read_words(self.path, self.top)
        with as_file(files("memcram").joinpath("data/words.txt")) as packaged:
            return read_words(packaged, self.top)

    def _text(self, vocabulary: tuple[str, ...], origin: str, seed: str) -> Iterator[Passage]:
        drawn = random.Random(seed).choices(vocabulary, k=self.words)
        yield Passage(origin, 0, " ".join(drawn))


def read_words(path: Path, top: int | None = None) -> tuple[str, ...]:
    """Read the first word of each line of a frequency list or GloVe file.

    A GloVe line is a word followed by its coordinates. Lines before the first word that begin with
    "# " are comments. Reading stops after `top` words.

    Raises:
        TextError: the file can't be read, is not UTF-8, or has fewer than `top` (or 2) words.
    """
    words: dict[str, None] = {}
    try:
        # Some GloVe words contain other characters that Python treats as line ends.
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                word = line.split(" ", 1)[0].strip()
                if word and (words or not line.startswith("# ")):
                    words[word] = None
                if len(words) == top:
                    break
    except OSError as error:
        raise TextError(
            f"{str(path)!r} can't be read ({error.strerror})", argument="path"
        ) from error
    except UnicodeDecodeError as error:
        raise TextError(f"{str(path)!r} is not UTF-8", argument="path") from error
    if len(words) < (top or 2):
        raise TextError(
            f"{str(path)!r} has {len(words)} words, but {top or 2} are needed", argument="path"
        )
    return tuple(words)
