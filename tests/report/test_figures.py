"""Each figure drawn from a small fixed table: what is plotted is what the table says."""

import re
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text

import plausible
from memcram.models.accounting import Accounting
from memcram.report import bars as bar_figures
from memcram.report import figure_data, figures, style, token_figures
from memcram.report.data import ReportData, with_label
from memcram.report.horizons import (
    HORIZONS,
    horizon_table,
    published_horizons,
)
from memcram.report.sections import sections
from memcram.report.tables import (
    published_table,
    table_1,
)

PUBLISHED = {"published": True, "n": np.nan, "gain_n": np.nan, "next_tokens": np.nan}


def bars():
    own = {"label": "pocket", "published": False, "parameters": 9e6, "vectors": 1, "n": 16}
    other = {"label": "big", "parameters": 8e9, "vectors": 1} | PUBLISHED
    return pd.DataFrame(
        [
            own | {"source": "books", "max_tokens": 16.0, "next_tokens": 24.0},
            own | {"source": "random", "max_tokens": np.nan, "next_tokens": 8.0},
            other | {"source": "books", "max_tokens": 1568.0},
        ]
    )


def words(axes):
    return [text.get_text() for text in axes.texts]


def test_max_tokens():
    axes = bar_figures.max_tokens(bars()).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [16, 0, 1568]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["pocket", "big"]
    assert words(axes) == ["16", "< 8", "1,568"]
    (line,) = axes.lines  # from the capacity to the next length, which failed
    assert list(line.get_xdata()) == [16, 24]
    hollow = axes.patches[2].get_facecolor()
    assert hollow[3] == 0
    assert axes.patches[0].get_facecolor()[3] == 1


def test_a_capacity_that_was_the_longest_tried_says_so():
    data = bars().iloc[:1].assign(next_tokens=np.nan)
    assert words(bar_figures.max_tokens(data).axes[0]) == ["≥ 16, the longest tried"]


def gains():
    own = {"label": "pocket", "published": False, "parameters": 9e6, "vectors": 1, "gain_n": 12}
    own |= {"source": "books", "bound_tokens": 340.0, "token_gain": 17.0, "token_gain_low": 15.0}
    own |= {"token_gain_high": 20.0, "utilisation": 0.05}
    own |= {"utilisation_low": 0.044, "utilisation_high": 0.059}
    other = {"label": "big", "parameters": 8e9, "vectors": 1, "source": "random"} | PUBLISHED
    other |= {"bound_tokens": 3862.0, "token_gain": 623.0, "utilisation": 0.16}
    return pd.DataFrame([own, other])


def test_bound_against_gain():
    axes = figures.bound_against_gain(gains()).axes[0]
    marks = [marks for marks in axes.collections if len(marks.get_offsets())]
    offsets = [tuple(mark) for each in marks for mark in each.get_offsets().tolist()]
    assert {(340, 17), (3862, 623)} <= set(offsets)
    small, large = (each.get_sizes()[0] for each in marks if hasattr(each, "get_sizes"))
    assert small < large  # 9 M and 8 B parameters
    full = next(line for line in axes.lines if line.get_label() == "_1")
    assert list(full.get_xdata()) == list(full.get_ydata())
    intervals = [one for one in axes.collections if hasattr(one, "get_segments")]
    ends = [segment[:, 1].tolist() for one in intervals for segment in one.get_segments()]
    assert [15, 20] in ends


def test_utilisation():
    axes = bar_figures.utilisation(gains()).axes[0]
    assert [patch.get_width() for patch in axes.patches] == [0.05, 0.16]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.044, 0.059]]
    assert words(axes) == ["5 %", "16 %"]


def points():
    lm = np.array([20.0, 100.0, 150.0, 200.0, 260.0])
    return pd.DataFrame(
        {
            "task": list("abcde"),
            "label": "pocket",
            "vectors": 1,
            "source": ["books", "books", "random", "books", "random"],
            "length": [8, 32, 16, 64, 32],
            "lm_nats": lm,
            "mem_nats": np.maximum(lm - 90, 0),
            "saturated": [True, False, False, False, False],
            "passage": list("abcde"),
        }
    )


def test_cross_entropy():
    axes = figures.cross_entropy(points()).axes[0]
    drawn = {tuple(xy) for marks in axes.collections for xy in marks.get_offsets().tolist()}
    assert drawn == {(20, 0), (100, 10), (150, 60), (200, 110), (260, 170)}
    labels = {line.get_label(): line for line in axes.lines}
    slope1 = labels["slope 1, threshold 90 nats"]
    assert np.allclose(slope1.get_xdata() - slope1.get_ydata(), 90)
    free = labels["free slope 1.00 [1.00, 1.00]"]
    assert np.allclose(np.diff(free.get_ydata()) / np.diff(free.get_xdata()), 1)
    threshold = [line for line in axes.lines if list(line.get_xdata()) == [90, 90]]
    assert len(threshold) == 1


def test_cross_entropy_marks_random_texts_and_those_held_whole():
    axes = figures.cross_entropy(points()).axes[0]
    by_size = {len(marks.get_offsets()): marks for marks in axes.collections}
    circle, triangle = axes.collections[1], axes.collections[3]
    assert circle.get_offsets().tolist() == [[100, 10], [200, 110]]
    assert triangle.get_offsets().tolist() == [[150, 60], [260, 170]]
    assert len(circle.get_paths()[0].vertices) != len(triangle.get_paths()[0].vertices)
    assert by_size[1].get_facecolor().size == 0  # hollow: held completely
    assert not np.array_equal(circle.get_facecolor()[0], circle.get_facecolor()[1])  # by length


def test_cross_entropy_of_texts_all_held_whole_has_no_line():
    axes = figures.cross_entropy(points().assign(saturated=True)).axes[0]
    assert len(axes.lines) == 1  # the diagonal


def test_bits_per_dimension_of_the_published_table():
    """Printed nats / ln 2 / width, and the two reference lines."""
    data = figure_data.dimension_data(published_table())
    random = data[data["source"] == "random"].set_index("label")["bits_per_dimension"].round(2)
    llamas = ["Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B"]
    assert random[llamas].tolist() == [1.60, 1.59, 1.60]
    for family, ends in {"Pythia": [0.58, 0.94], "Mamba": [1.01, 1.45]}.items():
        of_family = random[random.index.str.startswith(family)]
        assert [of_family.min(), of_family.max()] == ends
    assert data["bits_per_dimension"].max() == pytest.approx(1.71, abs=0.005)

    axes = figures.bits_per_dimension(data).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    marks = [one for one in axes.collections if len(one.get_offsets())]
    drawn = {(names[round(y)], round(x, 2)) for one in marks for x, y in one.get_offsets().tolist()}
    assert len(names) == 14
    assert {("Llama-3.2-1B", 1.60), ("Llama-3.1-8B", 1.71), ("Pythia-2.8B", 0.42)} <= drawn
    assert all(len(one.get_facecolor()) == 0 for one in marks)  # hollow
    lines = {round(line.get_xdata()[0], 2) for line in axes.lines if len(line.get_xdata()) == 2}
    assert lines == {0.72, 2.0}


def test_own_bits_per_dimension_have_intervals():
    own = {"label": "pocket", "source": "books", "published": False, "parameters": 6e6}
    own |= {"vectors": 1, "gain_n": 8, "bits_per_dimension": 0.5}
    own |= {"bits_per_dimension_low": 0.4, "bits_per_dimension_high": 0.7}
    axes = figures.bits_per_dimension(pd.DataFrame([own])).axes[0]
    [interval] = [one for one in axes.collections if hasattr(one, "get_segments")]
    assert interval.get_segments()[0][:, 0].tolist() == pytest.approx([0.4, 0.7])
    [marks] = [one for one in axes.collections if not hasattr(one, "get_segments")]
    assert marks.get_offsets()[:, 0].tolist() == [0.5]
    assert len(marks.get_facecolor()) == 1


def test_horizons_of_the_papers_and_of_the_authors_repository():
    data = figure_data.horizon_means_data(published_horizons())
    axes = bar_figures.horizon_means(data).axes[0]
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    values = zip(words(axes), [patch.get_width() for patch in axes.patches], strict=True)
    drawn = dict(zip(names, values, strict=True))
    assert len(drawn) == 20
    assert drawn["SmolLM2-135M · tarasov2026-repo"] == ("63.1 ± 17.9", 63.1)
    assert drawn["Pythia-1.4B · tarasov2026-repo@T=0.25"] == ("670 ± 87.7", 670.1)
    assert drawn["Llama-3.1-8B · tarasov2026+low-dim"] == ("1,697", 1697)
    assert all(patch.get_facecolor()[3] == 0 for patch in axes.patches)


def test_a_mean_over_texts_that_the_budget_ended_is_a_lower_bound():
    row = {"label": "pocket", "model": "pocket", "recipe": "default", "parameters": 1, "vectors": 1}
    row |= {"group": "pocket", "name": "default"}
    row |= {"source": "books", "published": False, "n": 8, "censored_share": 0.0}
    row |= dict.fromkeys(("horizon_tokens", "horizon_tokens_low", "horizon_tokens_high"), 31.0)
    for ended, shown in ((0, "31"), (3, "≥ 31"), (None, "31")):
        table = pd.DataFrame([row | {"budget_ended": ended}]).reindex(columns=HORIZONS)
        figure = bar_figures.horizon_means(figure_data.horizon_means_data(table))
        assert words(figure.axes[0]) == [shown]
        notes = " ".join(text.get_text() for text in figure.findobj(Text))
        assert ("(budget: 3 of 8 texts)" in notes) == bool(ended)


@pytest.mark.parametrize(("layout", "longest"), [("mem", [512, 509]), ("mem+bos", [511, 508])])
def test_the_ceiling_is_the_longest_text_that_the_model_has_positions_for(layout, longest):
    rows, _ = plausible.study(samples=1, vectors=(1, 4), models=("pocket",))
    rows = with_label(rows[rows["source"] == "books"].assign(layout=layout))
    data = figure_data.vectors_data(table_1(rows))
    assert data["ceiling_tokens"].tolist() == longest
    for k, n in zip((1, 4), longest, strict=True):
        assert Accounting(k, int(layout == "mem+bos"), n).input_length == 512


def by_vectors():
    return pd.DataFrame(
        {
            "label": "pocket",
            "source": "books",
            "published": [False, False, False, True],
            "vectors": [1, 2, 4, 32],
            "max_tokens": [16.0, 24.0, 48.0, 2016.0],
            "next_tokens": [24.0, 32.0, np.nan, np.nan],
            "n": [16, 16, 16, np.nan],
            "gain_n": [9, 9, 9, np.nan],
            "information_gain_nats": [80.0, 150.0, 290.0, np.nan],
            "information_gain_nats_low": [75.0, 140.0, 280.0, np.nan],
            "information_gain_nats_high": [85.0, 160.0, 300.0, np.nan],
            "ceiling_tokens": [512.0, 511.0, 509.0, np.nan],
        }
    )


def test_capacity_by_vectors():
    axes = figures.capacity_by_vectors(by_vectors()).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["books"].get_xydata().tolist() == [[1, 16], [2, 24], [4, 48]]
    assert lines["books, published"].get_xydata().tolist() == [[32, 2016]]
    assert lines["books, published"].get_linestyle() == "None"
    assert lines["ideal: linear"].get_xydata().tolist() == [[1, 16], [4, 64]]
    ceiling = lines["longest input of the model"].get_xydata().tolist()
    assert ceiling == [[1, 512], [2, 511], [4, 509]]
    brackets = axes.collections[0]
    assert [s[:, 1].tolist() for s in brackets.get_segments()][:2] == [[16, 24], [24, 32]]
    assert lines["_longest tried"].get_xdata().tolist() == [4]


def test_gain_by_vectors():
    figure = figures.gain_by_vectors(by_vectors())
    nats, bits = figure.axes
    assert nats.lines[0].get_xydata().tolist() == [[1, 80], [2, 150], [4, 290]]
    segments = nats.collections[0].get_segments()
    assert [s[:, 1].tolist() for s in segments] == [[75, 85], [140, 160], [280, 300]]
    assert np.allclose(np.array(nats.get_ylim()) / np.log(2), bits.get_ylim())


def test_horizons_allow_for_censoring():
    rows = pd.DataFrame(
        {
            "kind": "horizon",
            "condition": "",
            "label": "pocket",
            "vectors": 1,
            "source": "books",
            "horizon": [2, 3, 5, 5],
            "censored": [False, True, False, False],
        }
    )
    data = figure_data.horizons_data(rows)
    steps = data[~data["censored"]]
    # One of four misses token 3; the second ends there unmissed; both others miss token 6.
    assert steps["tokens"].tolist() == [0, 3, 6, 6]
    assert steps["share"].tolist() == [1, 0.75, 0, 0]
    axes = token_figures.horizons(data).axes[0]
    line, cross = axes.lines
    assert line.get_xydata().tolist() == steps[["tokens", "share"]].to_numpy().tolist()
    assert cross.get_xydata().tolist() == [[3, 0.75]]
    assert line.get_label() == "books, n = 4, 1 censored"


def test_learning_curves():
    data = pd.DataFrame(
        {
            "task": ["a", "a", "b", "b", "c", "c", "c"],
            "label": "pocket",
            "kind": "capacity",
            "vectors": 1,
            "length": 8,
            "step": [0, 10, 0, 5, 0, 5, 10],
            "right": [0, 6, 2, 8, 1, 2, 4],
            "loss": 1.0,
        }
    )
    axes = token_figures.learning_curves(data).axes[0]
    assert axes.lines[1].get_xydata().tolist() == [[0, 2], [5, 8]]
    # At step 5 the texts hold 0, 8, 2; at step 10 b, which has ended, keeps its 8.
    assert axes.lines[-1].get_xydata().tolist() == [[0, 1], [5, 2], [10, 6]]


def test_accuracy_by_position():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    row = rows[(rows["kind"] == "capacity") & (rows["accuracy"] < 0.9)].iloc[:1]
    record = records[row.iloc[0]["task"]]
    data = figure_data.positions_data(with_label(row), records.__getitem__)
    with_mem = data[data["with_"] == "[mem]"].reset_index(drop=True)
    right = record.mem_ranks == 0
    assert with_mem.loc[3, ["first", "last"]].tolist() == [5, 8]
    assert with_mem.loc[3, "share"] == right[4:8].double().mean().item()
    bare = data[data["with_"] == "bare LM"]
    assert bare["first"].min() == 2  # it has no prediction for t₁
    axes = token_figures.accuracy_by_position(data).axes[0]
    assert axes.lines[0].get_ydata().tolist() == with_mem["share"].tolist()


def test_a_token_that_was_given_is_not_in_its_place():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    row = rows[(rows["kind"] == "capacity") & (rows["accuracy"] < 0.9)].iloc[:1]
    record = records[row.iloc[0]["task"]]
    given = record.mem_ranks.clone()
    given[0] = -1
    changed = type(record)(**{**vars(record), "mem_ranks": given})
    data = figure_data.positions_data(with_label(row), lambda task: changed)
    assert data["first"].min() == 2
    assert torch.equal(given[1:], record.mem_ranks[1:])


def test_published_values_alone_can_be_drawn():
    axes = bar_figures.max_tokens(figure_data.max_tokens_data(published_table())).axes[0]
    assert all(patch.get_facecolor()[3] == 0 for patch in axes.patches)
    assert max(patch.get_width() for patch in axes.patches) == 1568


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
def test_figures_leave_no_setting_behind_and_give_the_same_bytes(theme):
    before = mpl.rcParams.copy()
    first = style.to_svg(bar_figures.utilisation(gains(), theme), theme)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        again = style.to_svg(bar_figures.utilisation(gains(), theme), theme)
    assert first == again
    assert b"dc:date" not in first
    assert mpl.rcParams == before


NAMES = ["$cost_{$", "US$5 to US$9", "_hidden", "\u9752\u7a7a\u6587\u5eab", "prose, old"]


def test_names_are_drawn_as_written():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    rows = rows[(rows["source"] == "books") & rows["length"].isin([16, 32, 128])]
    rows = pd.concat([rows.assign(source=name) for name in NAMES], ignore_index=True)
    rows = with_label(rows)
    made = ReportData(rows, records.__getitem__, plausible.pieces, ())
    found = sections(made, table_1(rows), horizon_table(rows))
    by_source = {"figure-1", "figure-3", "figure-5", "bits-per-dimension", "horizon-means"}
    by_source |= {"horizon-curves", "horizon-surprisal"}
    drawn = {one.key: one.figures[0].draw(style.LIGHT) for one in found if one.key in by_source}
    assert set(drawn) == by_source
    for figure in drawn.values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            svg = style.to_svg(figure, style.LIGHT).decode()
        shown = re.findall("<!-- (.*?) -->", svg)
        for name in NAMES:
            assert any(name in text for text in shown)


def test_a_character_that_no_font_has_is_left_to_the_reader(monkeypatch):
    figure = bar_figures.utilisation(gains().assign(source="\u9752"))
    outlines = style.to_svg(bar_figures.utilisation(gains()), style.LIGHT)
    monkeypatch.setattr(style, "_fallbacks", lambda text: ((), "\u9752" not in text))
    kept = style.to_svg(figure, style.LIGHT).decode()
    assert re.search("<text [^>]*>\u9752", kept)
    assert b"<text" not in outlines


def test_sources_differ_in_more_than_colour():
    data = pd.concat([bars().iloc[:1].assign(source=f"source {i}") for i in range(6)])
    patches = bar_figures.max_tokens(data).axes[0].patches
    assert len({patch.get_hatch() for patch in patches}) == 6
    colours = [patch.get_facecolor() for patch in patches]
    assert len(set(colours)) == 6
    lines = by_vectors().iloc[:3]
    data = pd.concat([lines.assign(source=f"source {i}") for i in range(6)])
    drawn = [
        line
        for line in figures.capacity_by_vectors(data).axes[0].lines
        if str(line.get_label()).startswith("source")
    ]
    assert len({line.get_marker() for line in drawn}) == 6
    # The cycle of dashes of a line, which is (offset, None) for a solid one.
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 6


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
def test_lengths_are_told_by_lightness_alone(theme):
    rgb = np.array(style.lengths_map(theme).colors)[:, :3]
    lightness = rgb @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) >= 0).all()  # neighbours of 256 steps may be rounded alike
    assert (np.diff(lightness[::16]) > 0.02).all()
