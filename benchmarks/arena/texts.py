"""The texts of the arena: those for choosing and those for reporting come from different books."""

from importlib.resources import files
from pathlib import Path

from memcram.errors import TextError
from memcram.models import FrozenLM
from memcram.texts import TextSample, sample_files
from memcram.texts.passages import files_in

CHOOSING, REPORTING = "choosing", "reporting"
# The packaged passage is short: longer stretches would all begin at the same place.
PASSAGE_TOKENS = 48


def split_books(names: list[str]) -> dict[str, list[str]]:
    """Every other book, by name, is for choosing, and the others for reporting.

    Neighbouring names are often of one author, so that each half gets some of everybody.

    Raises:
        TextError: there are fewer than two books.
    """
    ordered = sorted(names)
    if len(ordered) < 2:
        raise TextError(
            f"TEXT: got {len(ordered)} book, allowed: 2 or more, some for choosing, some to report"
        )
    return {CHOOSING: ordered[0::2], REPORTING: ordered[1::2]}


def read_books(paths: tuple[Path, ...]) -> dict[str, str]:
    """Content by file name.

    Raises:
        TextError: a file is missing or no UTF-8, or two have the same name.
    """
    books: dict[str, str] = {}
    for path in files_in(paths, (".txt",), "books"):
        try:
            books[path.name] = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TextError(f"TEXT: {str(path)!r} can't be read ({error})") from error
    return books


def draw(
    lm: FrozenLM, books: dict[str, str], *, samples: int, max_tokens: int, seed: int
) -> list[TextSample]:
    """Stretches of the books, in turn from each."""
    return sample_files(books, lm.tokenize, samples=samples, max_tokens=max_tokens, seed=seed)


def packaged_passage() -> dict[str, str]:
    """The passage that comes with the package, as the only book."""
    return {"demo.txt": files("memcram").joinpath("data/demo.txt").read_text("utf-8")}
