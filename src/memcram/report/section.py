"""A section of the report: its figures and the one table they are drawn from."""

from collections.abc import Callable
from dataclasses import dataclass
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
    """A file name of letters, digits and dashes; its start keeps names apart by section."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._") else "-" for c in name)
    return f"{key}-{plain.strip('-.').lower()}"
