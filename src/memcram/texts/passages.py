"""Read local files, and cut the passages drawn from them to samples of a given length."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from memcram.errors import TextError, UsageError
from memcram.files import is_folder, reading
from memcram.texts.sample import TextSample, Tokenize

Paths = Path | tuple[Path, ...]

_TRIES = 64  # consecutive duplicates after which a text counts as exhausted


@dataclass(frozen=True)
class Passage:
    """A text before it is cut to a number of tokens; attributes as in `TextSample`."""

    origin: str
    offset: int
    text: str
    left: str = ""


def distinct(drawn: Iterable[Passage]) -> Iterator[Passage]:
    """Yield the passages that begin at different offsets, until 64 in a row do not."""
    taken: set[int] = set()
    misses = 0
    for passage in drawn:
        misses = misses + 1 if passage.offset in taken else 0
        if misses == _TRIES:
            return
        if not misses:
            taken.add(passage.offset)
            yield passage


def cut_in_turn(
    origins: Sequence[Iterator[Passage]],
    tokenize: Tokenize,
    *,
    samples: int,
    n_tokens: int,
    limit: str,
    allow_shorter: bool = False,
) -> list[TextSample]:
    """Take passages in turn from each origin, and keep the first `n_tokens` tokens of each.

    A whole passage is tokenized and then cut, so neither the draw nor the tokens depend on
    `n_tokens`, and shorter samples are prefixes of longer ones. An exhausted origin is left out of
    later turns.

    Args:
        origins: the passages of each origin, all different.
        tokenize: text to token ids.
        samples: number of samples.
        n_tokens: tokens per sample.
        limit: what limits the number of passages; ends the error's sentence.
        allow_shorter: also accept passages of 1 to `n_tokens` - 1 tokens, whole.

    Raises:
        UsageError: `samples` or `n_tokens` is less than 1.
        TextError: fewer than `samples` passages are long enough.
    """
    for name, value in (("samples", samples), ("n_tokens", n_tokens)):
        if value < 1:
            raise UsageError(argument=name, got=value, allowed="1 or more")
    needed = 1 if allow_shorter else n_tokens
    passages = _in_turn(origins, samples)
    tokens = [tokenize(passage.text) for passage in passages]
    enough = sum(len(ids) >= needed for ids in tokens)
    if enough < samples:
        raise TextError(
            f"{enough} texts of at least {needed} tokens were drawn, but {samples} are needed; "
            f"{_shortage(passages, tokens, needed, limit)}"
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


def files_in(path: Paths, suffixes: tuple[str, ...], argument: str = "path") -> list[Path]:
    """List files, and the files in folders that have one of the suffixes, sorted by name.

    Args:
        path: files and folders; folders inside a folder are not read.
        suffixes: lower-case suffixes taken from folders; a file that is named itself may have any.
        argument: name of the argument, for errors.

    Raises:
        TextError: a folder has no such file, a name is not UTF-8, or two files have the same name;
            the origin of a sample is a file's name, wherever its folder is.
    """
    found: dict[str, Path] = {}
    for given in path if isinstance(path, tuple) else (path,):
        inside = [given]
        if is_folder(given):
            inside = [one for one in sorted(given.iterdir()) if one.suffix.lower() in suffixes]
            if not inside:
                raise TextError(
                    f"the folder {str(given)!r} has no {suffixes[0]} file", argument=argument
                )
        for one in inside:
            if one.name in found:
                raise TextError(
                    f"two files are named {one.name!r}; give each its own name", argument=argument
                )
            # A byte that is not UTF-8 is a lone surrogate here, which ids and tables can't hold.
            if any("\ud800" <= character <= "\udfff" for character in one.name):
                raise TextError(
                    f"the name {one.name!r} is not UTF-8; rename the file", argument=argument
                )
            found[one.name] = one
    return [found[name] for name in sorted(found)]


def read_utf8(path: Path) -> str:
    """Read a text file, without a byte order mark.

    Raises:
        TextError: it can't be read or is not UTF-8.
    """
    with reading(path):
        return path.read_bytes().decode("utf-8-sig")


def _in_turn(origins: Sequence[Iterator[Passage]], samples: int) -> list[Passage]:
    found: list[Passage] = []
    waiting = list(origins)
    while waiting and len(found) < samples:
        remaining = []
        for origin in waiting:
            if len(found) == samples:
                break
            passage = next(origin, None)
            if passage is not None:
                found.append(passage)
                remaining.append(origin)
        waiting = remaining
    return found


def _shortage(
    passages: Sequence[Passage], tokens: Sequence[list[int]], needed: int, limit: str
) -> str:
    short = [(len(ids), one.origin) for ids, one in zip(tokens, passages, strict=True)]
    if short and min(short)[0] < needed:
        shortest, origin = min(short)
        return f"the shortest, of {origin!r}, has {shortest}"
    return limit
