"""Render what a page shows as HTML; all text from texts and archives is escaped."""

import textwrap
from collections.abc import Sequence
from itertools import groupby

from memcram.errors import MemcramError
from memcram.report.explain import legends, marked_tokens
from memcram.report.html import render
from memcram.ui.actions import Growing, Opened

# Fields of `memcram compress --json` that say most, with the words for them.
_KEY_NUMBERS = {
    "tokens": "tokens",
    "vectors": "vectors",
    "tokens_per_vector": "tokens per vector",
    "chunks_exact": "exact chunks",
    "min_margin": "smallest margin, logits",
}
# What the page calls arguments; others are left out.
_NAMES = {
    "text": "Text",
    "vectors": "K",
    "model": "Model",
    "recipe": "Recipe",
    "archive": "Archive",
}
_MAX_PROBLEM = 400  # characters


def styles() -> str:
    """The style sheet of the page."""
    return _html("page.css")


def note(text: str) -> str:
    """A muted line."""
    return _html("note.html.j2", kind="muted", text=text)


def problem(error: MemcramError | str) -> str:
    """An error, as one line."""
    text = error if isinstance(error, str) else error.message(_NAMES.get(error.argument or ""))
    return _html(
        "note.html.j2", kind="problem", text=textwrap.shorten(text, _MAX_PROBLEM, placeholder=" …")
    )


def live(state: Growing) -> str:
    """A text while it is crammed: what is held, and how fast it grows."""
    runs = groupby(zip(state.held, state.pieces, strict=True), key=lambda one: one[0])
    spans = [(held, "".join(piece for _, piece in run)) for held, run in runs]
    return _html("live.html.j2", state=state, spans=spans)


def result(opened: Opened, adapter_problem: str = "") -> str:
    """A decoded archive: whether it is exact, its text, its tokens, and the table."""
    summary = opened.archive.summary()
    return _html(
        "result.html.j2",
        opened=opened,
        made=opened.archive.manifest,
        summary=summary | {"archive_bytes": len(opened.archive.to_bytes())},
        key_numbers=[(words, summary[name]) for name, words in _KEY_NUMBERS.items()],
        tokens=marked_tokens(opened.view),
        before="".join(opened.decoded[: opened.first_difference]),
        differing=_difference(opened.decoded, opened.first_difference),
        adapter_problem=adapter_problem,
        view=opened.view,
        **legends(),
    )


def report_frame(path: str) -> str:
    """A study's report, in a frame that cannot reach the page around it."""
    return _html("report_frame.html.j2", path=path)


def _difference(pieces: Sequence[str], first: int | None) -> tuple[str, str]:
    """The first wrong token, and the text decoded after it."""
    if first is None:
        return "", ""
    return pieces[first], "".join(pieces[first + 1 :])


def _html(template: str, **values: object) -> str:
    return render(template, package="memcram.ui", **values).decode()
