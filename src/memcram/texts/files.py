"""Samples from a person's own files."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from memcram.errors import TextError
from memcram.texts.sample import TextSample

# Characters read for each token wanted; the tokens beyond are dropped.
_CHARS_PER_TOKEN = 12


def sample_files(
    texts: Mapping[str, str],
    tokenize: Callable[[str], list[int]],
    *,
    samples: int,
    max_tokens: int,
    seed: int = 0,
) -> list[TextSample]:
    """Draw stretches that begin at a word, in turn from each text, at seeded places.

    Args:
        texts: content by file name.
        tokenize: text to token ids.
        samples: how many.
        max_tokens: longest sample.
        seed: the same seed draws the same samples.

    Raises:
        TextError: a text has no token to predict.
    """
    names = sorted(texts)
    draw = random.Random(seed)
    found = []
    for i in range(samples):
        name = names[i % len(names)]
        text = texts[name]
        window = _CHARS_PER_TOKEN * max_tokens
        offset = draw.randint(0, max(0, len(text) - window))
        offset = _word_start(text, offset)
        stretch = text[offset : offset + window]
        ids = tokenize(stretch)[:max_tokens]
        if not ids:
            raise TextError(f"TEXT: {name!r} gives no token at character {offset}")
        found.append(TextSample(name, offset, torch.tensor(ids, dtype=torch.long), stretch))
    return found


def text_files(path: Path) -> list[Path]:
    """The file itself, or the .txt files of a folder, by name.

    Raises:
        TextError: there is no such file, or no .txt file in the folder.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.txt"))
    if not files:
        raise TextError(f"TEXT: the folder {str(path)!r} has no .txt file")
    return files


def _word_start(text: str, offset: int) -> int:
    """The first place from `offset` on that begins a word; the text's start if there is none."""
    if offset == 0:
        return 0
    blank = min((at for at in (text.find(c, offset) for c in " \n") if at >= 0), default=-1)
    return 0 if blank < 0 or blank + 1 >= len(text) else blank + 1
