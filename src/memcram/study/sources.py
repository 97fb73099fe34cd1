"""Kinds of text source that a spec may name, with their options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from memcram.errors import TextError, UsageError
from memcram.texts.files import sample_files, text_files
from memcram.texts.sample import TextSample, TextSource, Tokenize


class FilesSource:
    """Stretches of a person's own files.

    Args:
        path: a file, or a folder of .txt files.
    """

    def __init__(self, *, path: Path) -> None:
        self._path = path

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """Draw samples of exactly `n_tokens` tokens; as `TextSource` says."""
        texts = {}
        for file in text_files(self._path):
            try:
                texts[file.name] = file.read_text("utf-8")
            except OSError as error:
                raise TextError(f"TEXT: {str(file)!r} can't be read ({error.strerror})") from error
            except UnicodeDecodeError as error:
                raise TextError(f"TEXT: {str(file)!r} is not UTF-8") from error
        drawn = sample_files(texts, tokenize, samples=samples, max_tokens=n_tokens, seed=seed)
        enough = sum(len(sample.ids) == n_tokens for sample in drawn)
        if enough < samples:
            raise TextError(
                f"TEXT: {enough} texts of at least {n_tokens} tokens were drawn, {samples} are "
                "needed"
            )
        return drawn


SOURCES: dict[str, Callable[..., TextSource]] = {"files": FilesSource}


def make_source(kind: str, **options: Any) -> TextSource:
    """The source of a kind, with its options.

    Raises:
        UsageError: there is no such kind, or it has no such option.
    """
    if kind not in SOURCES:
        raise UsageError(f"source: got {kind!r}, allowed: {', '.join(SOURCES)}")
    try:
        return SOURCES[kind](**options)
    except TypeError as error:
        raise UsageError(f"source {kind!r}: {error}") from error
