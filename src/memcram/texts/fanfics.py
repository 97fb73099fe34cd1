"""Draw chunks of fan fiction saved with "Download: HTML" from the Archive of Our Own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

from memcram.errors import TextError
from memcram.files import reading
from memcram.texts.books import BookSource, Document
from memcram.texts.passages import Paths, files_in, read_utf8

MAX_BYTES = 64 * 2**20  # ten times the size of the longest works

_MAX_TAG_CHARS = 10_000  # longer tags are treated as text
_PREFACE = ("title", "author", "summary", "notes")
_STORY = ("heading", "body")
_VOID_NAMES = "area base br col embed hr img input link meta source track wbr"
_BLOCK_NAMES = (
    "address article aside blockquote br center dd details div dl dt fieldset figcaption figure "
    "footer h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section table td th tr ul"
)
_VOID = frozenset(_VOID_NAMES.split())
_BLOCKS = frozenset(_BLOCK_NAMES.split())


@dataclass(frozen=True, kw_only=True)
class Fanfics(BookSource):
    """Chunks of saved works; see `BookSource`, and `work_text` for the text of a work.

    Attributes:
        path: files and folders; of a folder, its .html and .htm files are read.
    """

    path: Paths

    def documents(self) -> Sequence[Document]:
        """One document per file, sorted by name."""
        return [
            Document(file.name, partial(read_work, file))
            for file in files_in(self.path, (".html", ".htm"))
        ]


def read_work(path: Path) -> str:
    """Read the text of one saved work; see `work_text`.

    Raises:
        TextError: the file can't be read, is larger than 64 MiB, or has no chapter text.
    """
    with reading(path):
        size = path.stat().st_size
    if size > MAX_BYTES:
        raise TextError(
            f"{str(path)!r} has {size} bytes", argument="path", allowed=f"{MAX_BYTES} or fewer"
        )
    text = work_text(read_utf8(path))
    if not text:
        raise TextError(
            f"{str(path)!r} has no chapter text; it is not a work saved as HTML from the Archive "
            "of Our Own",
            argument="path",
        )
    return text


def work_text(html: str) -> str:
    """Extract title, author, summary and notes, then chapter headings and paragraphs.

    Tags, statistics, chapter summaries and notes, and the afterword are skipped. The result is
    empty if there is no chapter text.
    """
    reader = _Work()
    reader.feed(_whole_tags(html))
    reader.close()
    return reader.text()


class _Work(HTMLParser):
    """Assign each piece of text the role of its nearest ancestor that has one.

    End tags are matched by name, and one that was never opened is ignored, so the time is linear
    in the length of the text however badly it is nested.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, str]] = []  # (tag, role), outermost first
        self._count: Counter[str] = Counter()
        self._pieces: list[tuple[str, str]] = []  # (role, text), in document order
        self._buffer: list[str] = []
        self._role = ""

    def text(self) -> str:
        """The text of the work, with a blank line between paragraphs."""
        self._flush()
        story = [piece for role, piece in self._pieces if role in _STORY]
        if not any(role == "body" for role, _ in self._pieces):
            return ""
        preface = []
        for role in _PREFACE:
            words = " ".join(piece for of, piece in self._pieces if of == role)
            if role == "author":
                words = words.removeprefix("by ")
            if words:
                preface.append(f"{role.capitalize()}: {words}")
        return "\n\n".join(preface + story)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCKS:
            self._flush()
            if self._open and self._open[-1][0] == "p":
                self._close()  # the next block ends a paragraph
        if tag in _VOID:
            return
        given = {name: value or "" for name, value in attrs}
        role = self._role_of(tag, given.get("id", ""), given.get("class", "").split())
        self._open.append((tag, role))
        self._count[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._flush()
        if self._count[tag] > 0:
            while self._close() != tag:
                pass

    def handle_data(self, data: str) -> None:
        role = self._open[-1][1] if self._open else ""
        if role != self._role:
            self._flush()
            self._role = role
        if role in _PREFACE or role in _STORY or role == "label":
            self._buffer.append(data)

    def _role_of(self, tag: str, ident: str, classes: list[str]) -> str:
        here = self._open[-1][1] if self._open else ""
        if tag in ("script", "style") or ident == "afterword":
            return "left out"
        # At any depth: an unclosed element before them must not swallow the work.
        if ident in ("preface", "chapters"):
            return ident
        match here, tag:
            case "preface", "h1":
                return "title"
            case "preface", "div" if "byline" in classes:
                return "author"
            case "preface", "p":
                return "label"
            case "preface", "blockquote" if "userstuff" in classes:
                return self._labelled()
            case "chapters" | "meta", "h2" if "heading" in classes:
                return "heading"
            case "chapters", "div" if "meta" in classes:
                return "meta"
            case "chapters", "div" if "userstuff" in classes:
                return "body"
            case "chapters", "p":
                return "body"
        return here

    def _labelled(self) -> str:
        role, label = self._pieces[-1] if self._pieces else ("", "")
        if role == "label" and label.lower() in ("summary", "notes"):
            return label.lower()
        return "left out"

    def _close(self) -> str:
        tag, _ = self._open.pop()
        self._count[tag] -= 1
        return tag

    def _flush(self) -> None:
        words = " ".join("".join(self._buffer).split())
        if words:
            self._pieces.append((self._role, words))
        self._buffer.clear()


def _whole_tags(html: str) -> str:
    """Remove comments and declarations, and escape each `<` that does not begin a complete tag.

    The standard library's parser searches for the end of every incomplete construct, which takes
    hours for a megabyte of them.
    """
    before, *pieces = _without_comments(html).split("<")
    kept = [before]
    for piece in pieces:
        end = piece.find(">")
        if piece.startswith(("!", "?")):
            kept.append(piece[end + 1 :] if end >= 0 else "")
        elif 0 < end <= _MAX_TAG_CHARS and piece.removeprefix("/")[:1].isalpha():
            kept.append("<" + piece)
        else:
            kept.append("&lt;" + piece)
    return "".join(kept)


def _without_comments(html: str) -> str:
    """Remove comments; an unclosed one extends to the end, as in browsers."""
    kept = []
    at = 0
    while (start := html.find("<!--", at)) >= 0:
        kept.append(html[at:start])
        end = html.find("-->", start + 4)
        if end < 0:
            return "".join(kept)
        at = end + 3
    return "".join([*kept, html[at:]])
