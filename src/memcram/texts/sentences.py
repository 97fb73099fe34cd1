"""Where the sentences of a text begin."""

import re
from itertools import accumulate

from memcram.errors import UsageError

_LONGEST_QUOTE = 1_000  # characters

_OPENING = re.compile(r'(?<![^\s(\[—-])"')
_QUOTE = re.compile(rf"“([^“”]{{0,{_LONGEST_QUOTE}}})”|[“”]")
_CLOSING_MARKS = re.compile(r"""["')\]}”’»]+(?:\s+|$)""")
_OPENING_MARKS = re.compile(r"""(?:^|\s)(["'(\[“‘«]+)$""")
_MARKS = 6  # more opening marks in a row than a text has


def sentence_starts(text: str, language: str) -> list[int]:
    """Where each sentence begins, in characters, and where the last one ends.

    A sentence begins behind a blank; quotation marks and brackets around it belong to it.

    Args:
        text: white space collapsed.
        language: ISO 639-1 code.

    Raises:
        UsageError: the package that knows sentence boundaries is not installed.
    """
    try:
        import sentencex
    except ImportError as error:
        raise UsageError(
            "source: sentence boundaries need the package sentencex: pip install 'memcram[study]'"
        ) from error
    ends = accumulate(map(len, sentencex.segment(language, _with_clear_quotes(text))))
    starts = {_with_its_marks(text, end) for end in ends}
    return sorted({0, len(text)} | {at for at in starts if text[at - 1 : at] == " "})


def _with_clear_quotes(text: str) -> str:
    """The text as the splitter should see it, of the same length.

    It lets no sentence end inside a quotation, and one stray mark makes a quotation of the rest of
    a chapter: straight quotes pair up wrongly, apostrophes open quotations, and a speech of several
    paragraphs opens more quotations than it closes. So straight quotes become curly ones,
    apostrophes what they are, and marks without a partner near by blanks.
    """
    curly = _OPENING.sub("“", text).replace('"', "”").replace("'", "’")
    return _QUOTE.sub(lambda found: found[0] if found[1] is not None else " ", curly)


def _with_its_marks(text: str, at: int) -> int:
    """`at`, moved so that closing marks stay with the sentence before, opening ones behind it."""
    closing = _CLOSING_MARKS.match(text, at)
    if closing is not None:
        return closing.end()
    opening = _OPENING_MARKS.search(text, max(0, at - _MARKS), at)
    return opening.start(1) if opening is not None else at
