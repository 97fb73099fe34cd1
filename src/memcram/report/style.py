"""How figures look: one theme for light and one for dark, legible without colour.

Figures are drawn on `matplotlib.figure.Figure` objects, never through pyplot, so that nothing is
shared between them. Fonts are outlines and dates are left out: the same data give the same bytes.
"""

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

WIDTH = 4.8  # inches: one column, so that text stays readable when a phone shrinks it
_PNG_DPI = 200
_NOTE_CHARACTERS = 74
_TITLE_CHARACTERS = 46


@dataclass(frozen=True)
class Theme:
    """Colours of one theme; `label` is Okabe and Ito's palette, lightened for a dark ground."""

    name: str
    ground: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    lengths: tuple[float, float]  # the part of the sequential map that stands off the ground


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
    """Draw under this theme and no one else's settings."""
    settings: Any = {
        "font.family": ["DejaVu Sans"],
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


def new_figure(height: float) -> tuple[Figure, Axes]:
    """One column wide, `height` inches tall, with room made for labels."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def new_panels(count: int, height: float, title: str) -> tuple[Figure, list[Axes]]:
    """One column wide, two panels side by side, each row `height` inches tall, under one title."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH, height * rows + 1.2), layout="constrained")
    lines = textwrap.fill(title, _TITLE_CHARACTERS)
    figure.suptitle(lines, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def finish(
    figure: Figure,
    theme: Theme,
    note: str,
    columns: int = 2,
    handles: Sequence[Artist] | None = None,
) -> Figure:
    """Put the note (n, kind of interval) and the legend under the axes; break a long title.

    Args:
        figure: with one plot, or panels under one title.
        theme: colours.
        note: is wrapped.
        columns: of the legend.
        handles: what the legend shows; None takes all labelled marks.
    """
    axes = figure.axes[0]
    if len(title := axes.get_title(loc="left")) > _TITLE_CHARACTERS:
        axes.set_title(textwrap.fill(title, _TITLE_CHARACTERS))
    shown = list(axes.get_legend_handles_labels()[0] if handles is None else handles)
    legend = figure.legend(
        handles=shown,
        loc="outside lower left",
        ncols=columns if len(shown) != 4 else 2,  # two pairs
        title=textwrap.fill(note, _NOTE_CHARACTERS),
        title_fontsize=8,
        alignment="left",
        columnspacing=1.4,
    )
    legend.get_title().set_color(theme.muted)
    return figure


def lengths_map(theme: Theme) -> Colormap:
    """Perceptually ordered map for lengths, cut where it would sink into the ground."""
    low, high = theme.lengths
    whole = mpl.colormaps["cividis"]
    return ListedColormap([whole(low + (high - low) * i / 255) for i in range(256)])


def places(names: Sequence[str]) -> dict[str, int]:
    """Which colour, marker, hatch and line each text source gets: known ones always the same."""
    known = ["books", "fanfics", "random"]
    others = sorted(set(names) - set(known))
    return {name: i % len(MARKERS) for i, name in enumerate(known + others)}


def to_svg(figure: Figure, theme: Theme) -> bytes:
    """The figure as SVG, the same bytes each time."""
    return _saved(figure, theme, format="svg", metadata={"Date": None, "Creator": None})


def to_png(figure: Figure, theme: Theme) -> bytes:
    """The figure as PNG at 200 dots an inch, the same bytes each time."""
    return _saved(figure, theme, format="png", dpi=_PNG_DPI, metadata={"Software": None})


def _saved(figure: Figure, theme: Theme, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with applied(theme):
        figure.savefig(buffer, **options)
    return buffer.getvalue()
