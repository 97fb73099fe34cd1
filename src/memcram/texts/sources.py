"""The sources of texts by the name that a study gives them."""

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


def make_source(kind: str, /, **options: Any) -> TextSource:
    """The source of a kind, with its attributes as options.

    Args:
        kind: a key of `SOURCES`.
        options: attributes of that class, as TOML gives them; relative paths are taken as they
            are, so resolve them first.

    Raises:
        UsageError: the kind or an option is unknown, missing or has a wrong value.
    """
    if kind not in SOURCES:
        raise UsageError(f"source: got {kind!r}, allowed: {', '.join(SOURCES)}")
    chosen = SOURCES[kind]
    allowed = [field.name for field in fields(chosen)]  # type: ignore[arg-type]
    for key in options:
        if key not in allowed:
            raise UsageError(
                f"{key}: unknown to the source {kind!r}, allowed: {', '.join(allowed)}"
            )
    try:
        return TypeAdapter(chosen).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        got = "nothing" if first["type"] == "missing" else repr(first["input"])
        raise UsageError(f"{key}: got {got} for the source {kind!r}; {first['msg']}") from error
