"""Small books in every form a source of texts reads, and one source of each kind."""

import random
import re
import zlib

from memcram.texts import make_source

_NOUNS = "house river king letter garden stranger window daughter winter silence road lamp"
_VERBS = "saw left kept found followed remembered opened feared answered wanted"
NOUNS = _NOUNS.split()
VERBS = _VERBS.split()

# Chunks of this many words, so that a book of some pages is enough.
CHUNK = {"min_words": 240, "max_words": 520}


def tokenize(text):
    """A token for a word with the blank before it, and for each other character."""
    return [zlib.crc32(one.encode()) % 5_000 for one in re.findall(r"\s?\w+|\W", text)]


def book(seed, sentences=150):
    """Sentences of four to twelve words, no two books alike; lines break anywhere."""
    draw = random.Random(seed)
    lines = []
    for number in range(sentences):
        words = [f"{draw.choice(NOUNS)} {draw.choice(VERBS)}" for _ in range(draw.randint(2, 6))]
        lines.append(f"The {' the '.join(words)} in year {number} of {seed}.")
    return "".join(line + draw.choice(" \n") for line in lines)


def saved_work(name, text):
    """A work as the archive's download lays it out."""
    paragraphs = "".join(f"<p>{line}</p>\n" for line in text.splitlines())
    return f"""<!DOCTYPE html><html><head><title>{name}</title></head><body>
<div id="preface"><h2 class="toc-heading">Preface</h2><div class="meta"><h1>{name}</h1>
<div class="byline">by <a rel="author" href="#">someone</a></div></div></div>
<div id="chapters" class="userstuff"><div class="userstuff">{paragraphs}</div></div>
<div id="afterword"><p class="message">Please comment.</p></div></body></html>"""


class Rows:
    """What the sources use of a loaded data set."""

    def __init__(self, column, texts):
        self.column_names = ["title", column]
        self._texts = texts

    def __len__(self):
        return len(self._texts)

    def __getitem__(self, i):
        return {"title": f"book {i}", self.column_names[1]: self._texts[i]}


def write_books(folder):
    folder.mkdir(parents=True)
    for seed in ("one", "two", "three"):
        (folder / f"{seed}.txt").write_text(book(seed), encoding="utf-8")
        (folder / f"{seed}.html").write_text(saved_work(seed, book(seed)), encoding="utf-8")
    (folder / "list.txt.gz").write_bytes(b"not a book")
    return folder


def sources(folder):
    """One of each kind: the table every law of the sources runs over."""
    return {
        "files": make_source("files", path=folder, passage_chars=3_000),
        "books": make_source("books", path=folder, **CHUNK),
        "fanfics": make_source("fanfics", path=folder, **CHUNK),
        "random-words": make_source("random-words", words=300),
        "hub-books": make_source("hub-books", **CHUNK),
        "hub-chunks": make_source("hub-chunks", dataset="someone/chunks", shuffled=True),
    }
