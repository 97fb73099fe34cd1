"""A section of the report: its figures and the one table they are drawn from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from matplotlib.figure import Figure
from pandas import DataFrame

from memcram.report.style import Theme

Draw = Callable[[DataFrame, Theme], Figure]


@dataclass(frozen=True)
class Drawn:
    """One figure: `name` of its files, words for those who can't see it, and how to draw it."""

    name: str
    alt: str
    draw: Callable[[Theme], Figure]


@dataclass(frozen=True)
class Section:
    """Figures that belong together, with the one table they all draw from (`key`.csv)."""

    key: str
    heading: str
    caption: str
    figures: tuple[Drawn, ...]
    data: DataFrame


def drawn_later(draw: Draw, data: DataFrame) -> Callable[[Theme], Figure]:
    """A figure that only waits for its theme."""
    return partial(draw, data)


def file_name(key: str, name: str) -> str:
    """A file name of letters, digits and dashes; its start keeps names apart by section.

    Two names may become one: `with_names_apart` sees to it.
    """
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in name)
    return f"{key}-{plain.strip('-.').lower()}"


def with_names_apart(sections: Iterable[Section]) -> list[Section]:
    """The sections with no two figures of one file name: the later gets a number behind it."""
    taken: set[str] = set()

    def apart(drawn: Drawn) -> Drawn:
        name, number = drawn.name, 1
        while name in taken:
            number += 1
            name = f"{drawn.name}-{number}"
        taken.add(name)
        return replace(drawn, name=name)

    return [replace(one, figures=tuple(map(apart, one.figures))) for one in sections]
