"""On which line of a TOML file a value stands."""

import re
from collections import Counter
from collections.abc import Iterator

Place = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w.\-\"' ]+?)\s*=\s*")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([^.\s]+)")
# What can stand in a value without opening or closing anything: strings, comments, the rest.
_TOKEN = re.compile(
    r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|#[^\n]*|[\[\]{},\n]|[^\[\]{},\n\"'#]+",
    re.DOTALL,
)


def line_of(text: str, place: Place) -> int:
    """The line (from 1) of the value at `place`, or of the nearest table or key around it.

    Args:
        text: a valid TOML document.
        place: keys, and indices of arrays and of arrays of tables, from the outside in.

    >>> line_of('a = 1\\n[[b]]\\nc = 2\\n[[b]]\\nc = [\\n 3,\\n 4,\\n]', ("b", 1, "c", 1))
    7
    """
    best, depth = 1, 0
    for found, line in _places(text):
        if len(found) >= depth and found == place[: len(found)]:
            best, depth = line, len(found)
    return best


def _places(text: str) -> Iterator[tuple[Place, int]]:
    """All tables, keys and elements of arrays, each with its line."""
    tables: Counter[Place] = Counter()
    table: Place = ()
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end]
        number = text.count("\n", 0, at) + 1
        if header := _HEADER.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                table = (*table, tables[table])
                tables[table[:-1]] += 1
            yield table, number
        elif key := _KEY.match(line):
            place = (*table, *_parts(key[1]))
            yield place, number
            elements, end = _elements(text, at + key.end())
            yield from (((*place, i), line_number) for i, line_number in enumerate(elements))
        at = end + 1


def _parts(name: str) -> Place:
    return tuple(a or b or c for a, b, c in _PART.findall(name))


def _elements(text: str, start: int) -> tuple[list[int], int]:
    """Lines of the elements of the array that begins at `start`, and where the value ends."""
    depth, lines, wanted, at = 0, [], False, start
    for token in _TOKEN.finditer(text, start):
        symbol, at = token[0], token.start()
        if symbol == "\n" and depth == 0:
            break
        if symbol.isspace() or symbol.startswith("#"):
            continue
        if wanted and depth == 1 and symbol not in "],":
            lines.append(text.count("\n", 0, at) + 1)
            wanted = False
        if symbol in "[{":
            depth += 1
            wanted = wanted or depth == 1
        elif symbol in "]}":
            depth -= 1
        elif symbol == "," and depth == 1:
            wanted = True
        at = token.end()
    return lines, at
