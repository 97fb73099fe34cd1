"""Count the words of a folder of books: the frequency list behind the source `random-words`.

    python -m training.words.count --texts BOOKS --out src/memcram/data/words.txt

A word is a run of letters, with apostrophes inside it, in lower case. Words that occur
in fewer than `--books` books are left out: most are names. Ties are sorted alphabetically, so the
same books give the same file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from memcram.files import check_writable, write_atomically
from memcram.texts.passages import files_in, read_utf8

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


def words_of(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return _WORD.findall(text.replace("’", "'").lower())


def most_frequent(texts: Iterable[str], top: int, books: int) -> Mapping[str, int]:
    """Count the `top` most frequent words, most frequent first."""
    total: Counter[str] = Counter()
    seen_in: Counter[str] = Counter()
    for text in texts:
        found = Counter(words_of(text))
        total.update(found)
        seen_in.update(found.keys())
    kept = [word for word in total if seen_in[word] >= books]
    kept.sort(key=lambda word: (-total[word], word))
    return {word: total[word] for word in kept[:top]}


def word_list(counted: Mapping[str, int], texts: int, books: int) -> str:
    """Format the list: how it was made and its limits, then one word per line."""
    rarest = counted[list(counted)[-1]]
    header = (
        f"The {len(counted)} most frequent words of {texts} public-domain books in English",
        "(Project Gutenberg), most frequent first; words of fewer than",
        f"{books} of the books are left out. Made by training/words/count.py.",
        "A word is a run of letters, with apostrophes inside it, in lower case.",
        "Limits: old fiction's vocabulary and spelling; names of people and places are among the",
        f"words; no numbers and no punctuation; the last word occurs {rarest} times.",
    )
    return "".join(f"# {line}\n" for line in header) + "".join(f"{word}\n" for word in counted)


@click.command(help=__doc__)
@click.option("--texts", required=True, type=click.Path(path_type=Path), help="folder of .txt")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="file to write")
@click.option("--top", default=20_000, show_default=True, type=click.IntRange(1), help="words")
@click.option("--books", default=3, show_default=True, type=click.IntRange(1), help="fewest books")
def main(texts: Path, out: Path, top: int, books: int) -> None:
    """Count the words and write the list."""
    check_writable(out, force=True, argument="--out")
    files = files_in(texts, (".txt",))
    counted = most_frequent(map(read_utf8, files), top, books)
    if len(counted) < top:
        raise click.BadParameter(
            f"got {top}, allowed: 1 to {len(counted)} for these books", param_hint="--top"
        )
    data = word_list(counted, len(files), books).encode()
    write_atomically(out, data)
    click.echo(f"{out}: {len(counted)} words of {len(files)} books, {len(data)} bytes")


if __name__ == "__main__":
    main()
