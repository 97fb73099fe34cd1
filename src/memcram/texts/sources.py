"""The table of text sources, by the name used in a study spec."""

from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from memcram.errors import UsageError
from memcram.texts.books import BookChunks
from memcram.texts.fanfics import Fanfics
from memcram.texts.files import Files
from memcram.texts.hub import HubBooks, HubChunks
from memcram.texts.random_words import RandomWords
from memcram.texts.sample import TextSource

SOURCES: dict[str, type[TextSource]] = {
    "files": Files,
    "books": BookChunks,
    "fanfics": Fanfics,
    "random-words": RandomWords,
    "hub-books": HubBooks,
    "hub-chunks": HubChunks,
}
"""Classes of the sources of texts, by their kind."""


def make_source(kind: str, /, **options: Any) -> TextSource:
    """Build a source from its kind and options.

    Args:
        kind: a key of `SOURCES`.
        options: attributes of that class, with the types TOML has. Relative paths are relative
            to the working directory.

    Raises:
        UsageError: the kind is unknown, or an option is unknown, missing or invalid; `argument` is
            `source` or the option.
    """
    if kind not in SOURCES:
        raise UsageError(argument="source", got=kind, allowed=", ".join(SOURCES))
    chosen = SOURCES[kind]
    allowed = [field.name for field in fields(chosen)]  # type: ignore[arg-type]
    for key in options:
        if key not in allowed:
            raise UsageError(
                f"unknown to the source {kind!r}", argument=key, allowed=", ".join(allowed)
            )
    try:
        return TypeAdapter(chosen).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        got = "nothing" if first["type"] == "missing" else repr(first["input"])
        raise UsageError(
            f"got {got} for the source {kind!r}; {first['msg']}", argument=key
        ) from error
