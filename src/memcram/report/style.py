"""Style figures: a light and a dark theme, legible without colour.

Figures are drawn on `matplotlib.figure.Figure` objects, never through pyplot, so that nothing is
shared between them. Fonts are outlines and dates are left out: the same data give the same bytes.
"""

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

WIDTH = 4.8  # inches: one column, so that text stays readable when a phone shrinks it
_PNG_DPI = 200
_FONT = "DejaVu Sans"  # comes with matplotlib
LINE = 0.15  # inches: a line of a label, a title or a legend
_NOTE_CHARACTERS = 74
_TITLE_CHARACTERS = 42
BESIDE_LABELS = 28  # characters of a title's line, where the labels of the rows are long
_LABEL_CHARACTERS = 24
_LEGEND_CHARACTERS = 62  # of all columns together, without their marks
_HANDLE_CHARACTERS = 6  # width of a mark and its space in a legend
# Where a long name may be broken: after these signs, before an option or a variant.
_BREAKS = re.compile(r"(?<=[ ,/·:-])(?<!= )(?!= )|(?=[@+])")


@dataclass(frozen=True)
class Theme:
    """Colours of a theme; `label` is Okabe and Ito's palette, lightened for a dark background."""

    name: str
    ground: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    lengths: tuple[float, float]  # part of the sequential map with contrast to the ground


LIGHT = Theme(
    name="light",
    ground="#ffffff",
    ink="#1c1c1e",
    muted="#5b5f66",
    grid="#e3e5e8",
    series=("#0072b2", "#c25700", "#00795a", "#a0508a", "#7a5c00", "#3a7ca5"),
    lengths=(0.0, 0.86),
)
DARK = Theme(
    name="dark",
    ground="#15171a",
    ink="#ececee",
    muted="#a6abb3",
    grid="#32363c",
    series=("#56b4e9", "#f0a030", "#35c79a", "#dd9cc8", "#e6d35a", "#9cc7e0"),
    lengths=(0.3, 1.0),
)
THEMES = (LIGHT, DARK)

MARKERS = ("o", "s", "D", "^", "v", "P")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)))


@contextmanager
def applied(theme: Theme) -> Iterator[None]:
    """Context manager: draw with this theme, ignoring the user's settings."""
    settings: Any = {
        "font.family": [_FONT],
        "text.parse_math": False,  # names are drawn as written, dollar signs included
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "figure.facecolor": theme.ground,
        "savefig.facecolor": theme.ground,
        "axes.facecolor": theme.ground,
        "axes.edgecolor": theme.muted,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "hatch.linewidth": 0.6,
        "axes.prop_cycle": cycler(color=list(theme.series)),
        "svg.fonttype": "path",
        "svg.hashsalt": "memcram",
        "axes.unicode_minus": True,
    }
    # The first context sets matplotlib's own defaults, whatever the user's files say.
    with mpl.rc_context(mpl.rcParamsDefault | settings):
        yield


def wrapped(name: str, characters: int = _LABEL_CHARACTERS) -> str:
    """Break a name into lines, after a separator where there is one.

    >>> print(wrapped("tarasov2026+low-dim@temperature=0.25,k=256,lr=0.1"))
    tarasov2026+low-dim
    @temperature=0.25,k=256,
    lr=0.1
    """
    lines = [""]
    for piece in _BREAKS.split(name):
        for at in range(0, len(piece), characters):  # a piece may be longer than a line
            part = piece[at : at + characters]
            if lines[-1] and len((lines[-1] + part).rstrip()) > characters:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def n_lines(text: str) -> int:
    """Count the lines of a text."""
    return 1 + text.count("\n")


def new_figure(height: float) -> tuple[Figure, Axes]:
    """Create a figure one column wide and `height` inches tall, with room for labels."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def new_panels(count: int, height: float, title: str) -> tuple[Figure, list[Axes]]:
    """One column wide, two panels side by side, each row `height` inches tall, under one title."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 1.2), layout="constrained")
    figure.suptitle(
        wrapped(title, _TITLE_CHARACTERS), x=0.01, ha="left", fontsize=10, fontweight="bold"
    )
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def finish(
    figure: Figure,
    theme: Theme,
    note: str,
    columns: int = 2,
    handles: Sequence[Artist] | None = None,
    *,
    title_characters: int = _TITLE_CHARACTERS,
) -> Figure:
    """Add the note (n, kind of interval) and the legend under the axes; wrap a long title.

    The figure grows with the lines of title, note and legend, so that the plot keeps its height.

    Args:
        figure: with one plot, or panels under one title.
        theme: colours.
        note: is wrapped.
        columns: of the legend, fewer where its labels are long.
        handles: what the legend shows; None takes all labelled marks.
        title_characters: of a line of the title, which begins at the left end of the plot.
    """
    axes = figure.axes[0]
    title = wrapped(axes.get_title(loc="left"), title_characters)
    if title != axes.get_title(loc="left"):
        axes.set_title(title)
    shown = list(axes.get_legend_handles_labels()[0] if handles is None else handles)
    named = [handle for handle in shown if str(handle.get_label()).strip()]
    columns = _columns(shown, columns)
    shown = shown if columns > 1 else named
    labels = [wrapped(str(handle.get_label()), _LEGEND_CHARACTERS - 4) for handle in shown]
    note = textwrap.fill(note, _NOTE_CHARACTERS)
    rows = sum(map(n_lines, labels)) / columns
    more = n_lines(title) - 1 + max(0, n_lines(note) - 2) + max(0.0, rows - 2)
    figure.set_figheight(figure.get_figheight() + LINE * more)
    legend = figure.legend(
        shown,
        labels,
        loc="outside lower left",
        ncols=columns,
        title=note,
        title_fontsize=8,
        alignment="left",
        columnspacing=1.4,
    )
    legend.get_title().set_color(theme.muted)
    return figure


def _columns(handles: Sequence[Artist], most: int) -> int:
    """Number of columns of a legend that fit into the width of a figure."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    fitting = (_LEGEND_CHARACTERS + _HANDLE_CHARACTERS) // (longest + _HANDLE_CHARACTERS)
    return max(1, min(most if len(handles) != 4 else 2, fitting))  # four are two pairs


def lengths_map(theme: Theme) -> Colormap:
    """Return a perceptually ordered colour map for lengths, without the part of low contrast."""
    low, high = theme.lengths
    whole = mpl.colormaps["cividis"]
    return ListedColormap([whole(low + (high - low) * i / 255) for i in range(256)])


def places(names: Sequence[str]) -> dict[str, int]:
    """Number the style (colour, marker, hatch, dashes) of each source; known sources are fixed."""
    known = ["books", "fanfics", "random"]
    others = sorted(set(names) - set(known))
    return {name: i % len(MARKERS) for i, name in enumerate(known + others)}


def to_svg(figure: Figure, theme: Theme) -> bytes:
    """Render the figure as SVG; the same data give the same bytes.

    Text is drawn as outlines. Where no installed font has a character, all text is kept as text for
    the fonts of the reader, with each string in a comment, as matplotlib does for outlines.
    """
    fonts = "path" if _choose_fonts(figure) else "none"
    found = _saved(figure, theme, fonts, format="svg", metadata={"Date": None, "Creator": None})
    return found if fonts == "path" else re.sub(rb"<text [^>]*>([^<]*)</text>", _commented, found)


def to_png(figure: Figure, theme: Theme) -> bytes:
    """Render the figure as PNG at 200 dots per inch; the same data give the same bytes."""
    _choose_fonts(figure)
    return _saved(figure, theme, "path", format="png", dpi=_PNG_DPI, metadata={"Software": None})


def _saved(figure: Figure, theme: Theme, fonts: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with applied(theme), mpl.rc_context({"svg.fonttype": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def _commented(text: "re.Match[bytes]") -> bytes:
    return b"<!-- " + text[1].replace(b"--", b"- -") + b" -->" + text[0]


def _choose_fonts(figure: Figure) -> bool:
    """Choose fonts that have the characters of each text; return whether all are covered."""
    for axes in figure.axes:  # labels of ticks are not set before they are asked for
        axes.get_xticklabels()
        axes.get_yticklabels()
    complete = True
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        names, found = _fallbacks(text.get_text())
        complete &= found
        if names:
            text.set_fontfamily([_FONT, *names])
    return complete


@cache
def _fallbacks(content: str) -> tuple[tuple[str, ...], bool]:
    """Find fonts for the characters that the default lacks, and whether all are covered."""
    missing = {ord(c) for c in content if not c.isspace()} - _characters(findfont(_FONT))
    names = []
    for entry in fontManager.ttflist if missing else ():
        found = missing & _characters(entry.fname)
        if found and not entry.name.startswith("Last Resort"):  # which has boxes for everything
            names.append(entry.name)
            missing -= found
    return tuple(names), not missing


@cache
def _characters(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # not every installed font can be read
        return frozenset()
