"""From passages drawn at seeded places to samples of exactly as many tokens as asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from memcram.errors import TextError, UsageError
from memcram.texts.sample import TextSample, Tokenize

Paths = Path | tuple[Path, ...]


@dataclass(frozen=True)
class Passage:
    """A text before it is cut to a number of tokens; attributes as in `TextSample`."""

    origin: str
    offset: int
    text: str
    left: str = ""


def cut_in_turn(
    origins: Sequence[Iterator[Passage]],
    tokenize: Tokenize,
    *,
    samples: int,
    n_tokens: int,
    room: str,
) -> list[TextSample]:
    """Take passages in turn from each origin, and of each its first `n_tokens` tokens.

    A whole passage is tokenized and then cut: what is drawn, and how it is tokenized, never
    depends on `n_tokens`, so shorter samples are prefixes of longer ones. An origin that has no
    further passage is left out of later turns.

    Args:
        origins: the passages of each origin, all different.
        tokenize: text to token ids.
        samples: how many.
        n_tokens: tokens of each sample.
        room: what a person can change where passages run out; ends the error's sentence.

    Raises:
        UsageError: `samples` or `n_tokens` is less than 1.
        TextError: fewer than `samples` passages have `n_tokens` tokens.
    """
    for name, value in (("samples", samples), ("n_tokens", n_tokens)):
        if value < 1:
            raise UsageError(f"{name}: got {value}, allowed: 1 or more")
    passages = _in_turn(origins, samples)
    tokens = [tokenize(passage.text) for passage in passages]
    enough = sum(len(ids) >= n_tokens for ids in tokens)
    if enough < samples:
        raise TextError(
            f"TEXT: {enough} texts of at least {n_tokens} tokens were drawn, {samples} are "
            f"needed; {_why(passages, tokens, n_tokens, room)}"
        )
    return [
        TextSample(
            passage.origin,
            passage.offset,
            torch.tensor(ids[:n_tokens], dtype=torch.long),
            passage.text,
            passage.left,
        )
        for passage, ids in zip(passages, tokens, strict=True)
    ]


def files_in(path: Paths, suffixes: tuple[str, ...]) -> list[Path]:
    """Files themselves, and of folders the files with one of the suffixes; by name.

    Raises:
        TextError: a folder has no such file, or two files have the same name: samples are known
            by the name of their file, wherever its folder lies; or a name is not UTF-8.
    """
    found: dict[str, Path] = {}
    for given in path if isinstance(path, tuple) else (path,):
        inside = [given]
        if given.is_dir():
            inside = [one for one in sorted(given.iterdir()) if one.suffix.lower() in suffixes]
            if not inside:
                raise TextError(f"TEXT: the folder {str(given)!r} has no {suffixes[0]} file")
        for one in inside:
            if one.name in found:
                raise TextError(f"TEXT: two files are named {one.name!r}; give each its own name")
            check_name(one.name)
            found[one.name] = one
    return [found[name] for name in sorted(found)]


def check_name(name: str) -> None:
    """Refuse a file's name that can't go into ids and tables.

    Raises:
        TextError: it is not UTF-8; such a byte is a lone surrogate here.
    """
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise TextError(f"TEXT: the name {name!r} is not UTF-8; rename the file")


def read_utf8(path: Path) -> str:
    """The characters of a file, without a byte order mark.

    Raises:
        TextError: it can't be read or is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise TextError(f"TEXT: {str(path)!r} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TextError(f"TEXT: {str(path)!r} is not UTF-8 (byte {error.start})") from error


def _in_turn(origins: Sequence[Iterator[Passage]], samples: int) -> list[Passage]:
    found: list[Passage] = []
    waiting = list(origins)
    while waiting and len(found) < samples:
        going_on = []
        for origin in waiting:
            if len(found) == samples:
                break
            passage = next(origin, None)
            if passage is not None:
                found.append(passage)
                going_on.append(origin)
        waiting = going_on
    return found


def _why(passages: Sequence[Passage], tokens: Sequence[list[int]], n_tokens: int, room: str) -> str:
    short = [(len(ids), one.origin) for ids, one in zip(tokens, passages, strict=True)]
    if short and min(short)[0] < n_tokens:
        least, origin = min(short)
        return f"the shortest, of {origin!r}, has {least}"
    return room
