"""Long names of recipes, models and sources: everything stays inside the figure, readable."""

from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import plausible
from memcram.report import style
from memcram.report.data import ReportData, with_label
from memcram.report.horizons import horizon_table, published_horizons, with_published_horizons
from memcram.report.sections import sections
from memcram.report.tables import (
    published_table,
    table_1,
    with_published,
)

RECIPES = ("default@k=256", "tarasov2026+low-dim@temperature=0.25,k=256,lr=0.1")
SOURCE = "chapters of novels of the nineteenth century, without their headings"


@pytest.fixture(scope="module")
def drawn():
    """Every section of two recipes of a model with a long name."""
    studies = [
        plausible.study(one, samples=2, vectors=(1, 2), models=("pocket",)) for one in RECIPES
    ]
    rows = pd.concat([rows for rows, _ in studies], ignore_index=True)
    records = {task: record for _, found in studies for task, record in found.items()}
    rows = rows[rows["source"].isin(["books", "random"]) & rows["length"].isin([16, 32, 128])]
    rows = rows.replace(
        {"source": {"books": SOURCE}, "model": {"pocket": "a/b-1.5B-Instruct.Q4_K_M.gguf"}}
    )
    rows = with_label(rows.reset_index(drop=True))
    table = with_published(table_1(rows), published_table())
    horizons = with_published_horizons(horizon_table(rows), published_horizons())
    made = ReportData(rows, records.__getitem__, plausible.pieces, ())
    return {one.key: one for one in sections(made, table, horizons)}


def assert_readable(figure):
    """Texts lie inside the figure, and the labels of an axis do not overlap."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # warns if the layout does not fit
    renderer = figure.canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip():
            continue
        box = text.get_window_extent(renderer)
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        # Ticks beyond the limits of an axis are not drawn.
        assert inside or is_hidden_tick(text, figure), text.get_text()
    for axes in figure.axes:
        labels = [one for one in axes.get_yticklabels() if one.get_text()]
        boxes = sorted((one.get_window_extent(renderer) for one in labels), key=lambda b: b.y0)
        assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def is_hidden_tick(text, figure):
    ticks = [axes.get_xticklabels() + axes.get_yticklabels() for axes in figure.axes]
    minor = [axes.get_xticklabels(minor=True) for axes in figure.axes]
    return any(text is one for some in ticks + minor for one in some)


def check(sections):
    with style.applied(style.LIGHT):
        for section in sections:
            for one in section.figures:
                assert_readable(one.draw(style.LIGHT))


@pytest.mark.parametrize("key", ["figure-1", "figure-5", "bits-per-dimension", "horizon-means"])
def test_figures_of_labels_are_readable(drawn, key):
    check([drawn[key]])


@pytest.mark.slow
def test_every_figure_is_readable(drawn):
    check(drawn.values())


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("default", ["default"]),
        ("tarasov2026+low-dim@k=256,lr=0.1", ["tarasov2026+low-dim", "@k=256,lr=0.1"]),
        ("a" * 30, ["a" * 24, "a" * 6]),
        ("", [""]),
    ],
)
def test_a_name_is_broken_after_separators(name, lines):
    assert style.wrapped(name).split("\n") == lines
