"""Find the sentences of a text."""

import re
from itertools import accumulate

from memcram.errors import require

_LONGEST_QUOTE = 1_000  # characters

_OPENING = re.compile(r'(?<![^\s(\[—-])"')
_QUOTE = re.compile(rf"“([^“”]{{0,{_LONGEST_QUOTE}}})”|[“”]")
_CLOSING_MARKS = re.compile(r"""["')\]}”’»]+(?:\s+|$)""")
_OPENING_MARKS = re.compile(r"""(?:^|\s)(["'(\[“‘«]+)$""")
_MARKS = 6  # longest run of opening marks to look back over


def sentence_starts(text: str, language: str) -> list[int]:
    """Return the offset of each sentence, followed by the end of the last one.

    A sentence begins after a space; quotation marks and brackets around it belong to it.

    Args:
        text: text with whitespace collapsed.
        language: ISO 639-1 code.

    Raises:
        UsageError: the package `sentencex` is not installed.
    """
    require("sentence boundaries", "sentencex", argument="source")
    import sentencex

    ends = accumulate(map(len, sentencex.segment(language, _with_clear_quotes(text))))
    starts = {_with_its_marks(text, end) for end in ends}
    return sorted({0, len(text)} | {at for at in starts if text[at - 1 : at] == " "})


def _with_clear_quotes(text: str) -> str:
    """Replace ambiguous quotation marks, one character for one, before splitting.

    The splitter never ends a sentence inside a quotation, so one stray mark makes a quotation of
    the rest of a chapter: straight quotes pair up wrongly, apostrophes open quotations, and a
    speech of several paragraphs opens more quotations than it closes. Straight quotes therefore
    become curly ones, single marks become apostrophes, and double marks without a partner within
    1,000 characters become spaces.
    """
    curly = _OPENING.sub("“", text).replace('"', "”").replace("'", "’").replace("‘", "’")
    return _QUOTE.sub(lambda found: found[0] if found[1] is not None else " ", curly)


def _with_its_marks(text: str, at: int) -> int:
    """Move `at` so that closing marks stay with the sentence before it, opening marks after it."""
    closing = _CLOSING_MARKS.match(text, at)
    if closing is not None:
        return closing.end()
    opening = _OPENING_MARKS.search(text, max(0, at - _MARKS), at)
    return opening.start(1) if opening is not None else at
