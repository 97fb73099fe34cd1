"""Figures of the ablations drawn from small tables: what is plotted is what the rows say."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

import plausible
from memcram.report import ablation_data, ablation_figures, prefixes, style
from memcram.report.data import ReportData, with_label
from memcram.report.horizons import published_horizons
from memcram.report.sections import sections
from memcram.report.tables import published_table
from memcram.study.results import TokenRecord, column_types


def row(task, kind, condition="", text="a", **values):
    usual = {"task": task, "kind": kind, "condition": condition, "text_id": text}
    usual |= {"label": "pocket", "model": "pocket", "source": "books", "vectors": 1}
    usual |= {"length": 5, "tokens": 5, "bos_in_text": False, "first_token_given": False}
    usual |= {"recipe": "default", "censored": False, "layers": 6, "horizon": 0}
    return dict.fromkeys(column_types()) | usual | values


def table(*rows):
    return pd.DataFrame(list(rows))


def drawn_sections(rows, records):
    """Sections of the rows by key, without those that published values have too."""
    published = published_table(), published_horizons()
    found, others = (
        sections(ReportData(some, records, plausible.pieces, ()), *published)
        for some in (rows, rows.iloc[:0])
    )
    return {one.key: one for one in found if one.key not in {other.key for other in others}}


def bars(axes):
    """Label → (x, mean, low, high) of each line with intervals."""
    found = {}
    for container in axes.containers:
        points, _, (ends,) = container.lines
        segments = np.array(ends.get_segments())
        found[container.get_label()] = (
            list(points.get_xdata()),
            list(points.get_ydata()),
            list(segments[:, 0, 1]),
            list(segments[:, 1, 1]),
        )
    return found


def contexts():
    found = []
    for text, off in (("a", 0.0), ("b", 4.0)):
        bare = {"lm_nats": 16.0 + off, "lm_right": 1, "text": text}
        found.append(row(f"m{text}", "context", mem_nats=2.0, mem_right=4, **bare))
        for n, nats in ((64, 12.0), (8, 14.0)):
            condition = f"context={n}"
            values = bare | {"mem_nats": nats + off, "mem_right": 2, "vectors": 0}
            found.append(row(f"{n}{text}", "context", condition, **values))
    return table(*found)


def test_context():
    data = ablation_data.context_data(contexts())
    assert set(data["n"]) == {2}
    axes = ablation_figures.context(data, value="nats_a_token").axes[0]
    x, mean, low, high = bars(axes)["n tokens of context"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0\n(bare LM)", "8", "64"]
    assert (x, mean) == ([0, 1, 2], [4.5, 4.0, 3.5])
    assert np.allclose(low, [4.0, 3.5, 3.0])  # of two texts, the means of resamples end at them
    assert np.allclose(high, [5.0, 4.5, 4.0])
    [level] = [line for line in axes.lines if line.get_label() == "[mem], K = 1"]
    assert set(level.get_ydata()) == {0.5}
    axes = ablation_figures.context(data, value="right").axes[0]
    assert bars(axes)["n tokens of context"][1] == [0.25, 0.5, 0.5]


def record(mem_nats, ranks, mem=((0.0, 0.0),), path=None):
    nats, ranks = torch.tensor(mem_nats), torch.tensor(ranks)
    zero = torch.zeros(len(nats))
    return TokenRecord(
        mem=torch.tensor(mem),
        ids=zero.long(),
        mem_nats=nats,
        lm_nats=zero,
        mem_ranks=ranks,
        lm_ranks=zero.long(),
        margins=zero,
        learned_step=zero.long(),
        curve=torch.zeros(0, 3),
        path_steps=None if path is None else torch.tensor(list(path)),
        path=None if path is None else torch.tensor(list(path.values())),
    )


def test_repeat():
    rows = table(
        row("once", "repeat", tokens=3, length=3, horizon=2),
        row("twice", "repeat", "times=2", tokens=6, length=6, horizon=4),
    )
    records = {
        "once": record([9.0, 1.0, 2.0], [9, 0, 1]),
        "twice": record([9.0, 3.0, 4.0, 9.0, 5.0, 7.0], [0, 0, 0, 0, 1, 1]),
    }
    data = ablation_data.repeat_data(rows, records.__getitem__)
    assert list(data["part"]) == ["first half", "once", "second half"]
    assert list(data["length"]) == [3, 3, 3]  # the doubled text stands under the length of one
    assert list(data["accuracy"]) == [1.0, 0.5, 0.0]
    assert list(data["nats_a_token"]) == [3.5, 1.5, 6.0]
    assert list(data["horizon"]) == [3, 2, 1]
    axes = ablation_figures.halves(data, value="nats_a_token").axes[0]
    drawn = {name: line[1] for name, line in bars(axes).items()}
    assert drawn == {"once": [1.5], "twice, first half": [3.5], "twice, second half": [6.0]}


def test_a_bos_stands_in_no_half():
    values = {"bos_in_text": True, "first_token_given": True}
    rows = table(row("twice", "repeat", "times=2", tokens=5, length=5, horizon=3, **values))
    nats = [float("nan"), 9.0, 3.0, 9.0, 7.0]
    data = ablation_data.repeat_data(rows, lambda _: record(nats, [-1, 0, 0, 0, 1]))
    assert dict(zip(data["part"], data["nats_a_token"], strict=True)) == {
        "first half": 3.0,
        "second half": 7.0,
    }
    # BOS is given; of the three tokens that follow, two are the first half.
    assert dict(zip(data["part"], data["horizon"], strict=True)) == {
        "first half": 2,
        "second half": 1,
    }


def solutions():
    mems = {
        ("a", 0): (3.0, 4.0),
        ("a", 1): (4.0, 3.0),
        ("b", 0): (0.0, -5.0),
        ("b", 1): (5.0, 0.0),
    }
    rows = [
        row(f"{text}{i}", "seeds", f"start={i}", text, accuracy=1.0, exact=text == "a")
        for text, i in mems
    ]
    rows += [
        row(f"{text}m", "seeds", "line=0.5", text, accuracy=0.25 + 0.5 * (text == "a"), exact=False)
        for text in "ab"
    ]
    records = {f"{text}{i}": record([0.0], [0], (mem,)) for (text, i), mem in mems.items()}
    return table(*rows), records.__getitem__


def test_pairs():
    data = ablation_data.pairs_data(*solutions())
    found = {
        (one.first, one.second): (one.texts, one.cosine, one.distance) for one in data.itertuples()
    }
    assert found == {
        ("a0", "a1"): ("same", pytest.approx(24 / 25), pytest.approx(2**0.5)),
        ("b0", "b1"): ("same", pytest.approx(0), pytest.approx(50**0.5)),
        ("a0", "b0"): ("different", pytest.approx(-20 / 25), pytest.approx(90**0.5)),
        ("a1", "b1"): ("different", pytest.approx(20 / 25), pytest.approx(10**0.5)),
    }
    axes = ablation_figures.pairs(data, value="cosine").axes[0]
    medians = [line.get_xdata()[0] for line in axes.lines]
    assert medians == [pytest.approx(12 / 25), pytest.approx(0)]
    assert [patch.get_label() for patch in axes.patches] == [
        "same text, 2 pairs",
        "different texts, 2 pairs",
    ]


def test_pca_keeps_distances_of_points_in_a_plane():
    rows, records = solutions()
    data = ablation_data.pca_data(rows, records)
    assert data["first_share"].iloc[0] + data["second_share"].iloc[0] == pytest.approx(1)
    assert data["first_share"].iloc[0] > data["second_share"].iloc[0]
    points = data[["first", "second"]].to_numpy()
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(2**0.5)
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(90**0.5)
    assert points.mean(0) == pytest.approx([0, 0])
    axes = ablation_figures.pca(data).axes[0]
    marks = [line for line in axes.lines if line.get_label() == "_text"]
    drawn = np.concatenate([np.column_stack(line.get_data()) for line in marks])
    assert np.allclose(drawn, points)


# Paths by text and start, steps in the order of a record: the kept vectors' step is the last.
PATHS = {
    # Straight on; after the solution, at step 4, it was measured far away.
    ("a", 0): {0: [[0.0, 0.0, 5.0]], 2: [[3.0, 0.0, 5.0]], 8: [[99.0, 99.0, 99.0]]}
    | {4: [[6.0, 0.0, 5.0]]},
    # Two legs of 4 and 3, in the plane of the first path.
    ("a", 1): {0: [[0.0, 2.0, 5.0]], 4: [[0.0, 6.0, 5.0]], 6: [[3.0, 6.0, 5.0]]},
    # Solved where it began.
    ("b", 0): {0: [[1.0, 1.0, 1.0]]},
    ("b", 1): {0: [[0.0, 0.0, 0.0]], 1: [[0.0, 0.0, 2.0]]},
}


def paths(found=None):
    records = {
        f"p{text}{i}": record([0.0], [0], list(path.values())[-1], path)
        for (text, i), path in (found or PATHS).items()
    }
    values = {"length": 9, "accuracy": 1.0, "exact": True}
    rows = [row(f"p{text}{i}", "seeds", f"start={i}", text, **values) for text, i in found or PATHS]
    return table(*rows), records.__getitem__


def test_path_data():
    data = ablation_data.path_data(*paths())
    assert list(data["text_id"]) == ["a"] * 6 + ["b"] * 3
    assert list(data["start"]) == [0, 0, 0, 1, 1, 1, 0, 1, 1]
    assert list(data["step"]) == [0, 2, 4, 0, 4, 6, 0, 0, 1]  # to the solution and no further
    # The points of a lie in a plane, so their distances are kept on its two axes.
    points = data.loc[data["text_id"] == "a", ["first", "second"]].to_numpy()
    vectors = [PATHS["a", 0][step] for step in (0, 2, 4)] + list(PATHS["a", 1].values())
    wanted = torch.tensor(vectors).flatten(1)
    assert np.allclose(
        torch.cdist(torch.tensor(points).float(), torch.tensor(points).float()),
        torch.cdist(wanted, wanted),
        atol=1e-5,
    )
    assert data["first_share"].iloc[0] + data["second_share"].iloc[0] == pytest.approx(1)
    of_path = data.groupby(["text_id", "start"])[["axes_90", "axes_99"]].first()
    assert of_path.loc["a", 0].tolist() == [1, 1]
    # Two legs of 4 and 3: 78 and 22 % of the variance.
    assert of_path.loc["a", 1].tolist() == [2, 2]
    assert np.isnan(of_path.loc["b", 0]).all()
    assert of_path.loc["b", 1].tolist() == [1, 1]


def test_path_axes_count_those_that_are_needed():
    """Four axes with 80, 11, 8.5 and 0.5 % of the variance."""
    sizes = np.sqrt([0.80, 0.11, 0.085, 0.005])
    points = np.concatenate([np.diag(sizes), -np.diag(sizes)])
    path = {step: [point] for step, point in enumerate(points.tolist())}
    data = ablation_data.path_data(*paths({("a", 0): path}))
    assert set(data["axes_90"]) == {2}
    assert set(data["axes_99"]) == {3}
    assert set(data["first_share"].round(6)) == {0.8}


def test_path_takes_several_vectors_as_one():
    path = {0: [[0.0, 0.0], [0.0, 0.0]], 1: [[3.0, 0.0], [0.0, 0.0]], 2: [[3.0, 0.0], [0.0, 4.0]]}
    points = ablation_data.path_data(*paths({("a", 0): path}))[["first", "second"]].to_numpy()
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(5)


def test_path_figure():
    data = ablation_data.path_data(*paths())
    figure = ablation_figures.path(data)
    assert len(figure.axes) == 2
    for axes, (_, one) in zip(figure.axes, data.groupby("text_id"), strict=True):
        lines = {label: [] for label in ("_path", "_end")}
        for drawn in axes.lines:
            lines[drawn.get_label()].append(drawn)
        ways = [way[["first", "second"]].to_numpy() for _, way in one.groupby("start")]
        for drawn, way in zip(lines["_path"], ways, strict=True):
            assert np.array_equal(np.column_stack(drawn.get_data()), way)
        ends = [end for way in ways for end in (way[0], way[-1])]
        for mark, end in zip(lines["_end"], ends, strict=True):
            assert np.array_equal(np.column_stack(mark.get_data())[0], end)
        # A start is hollow, a solution filled; each start has a line and a mark of its own.
        faces = [mark.get_markerfacecolor() for mark in lines["_end"]]
        assert faces[0] == faces[2] == style.LIGHT.ground
        assert faces[1::2] == [mark.get_color() for mark in lines["_end"][1::2]]
        assert len({drawn.get_linestyle() for drawn in lines["_path"]}) == 2
        assert len({mark.get_marker() for mark in lines["_end"]}) == 2
        shares = one["first_share"].iloc[0], one["second_share"].iloc[0]
        assert axes.get_xlabel() == f"first axis ({100 * shares[0]:.0f} %)"
        assert axes.get_ylabel() == f"second ({100 * shares[1]:.0f} %)"
    note = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert note == (
        "hollow: init, filled: solution; n = 3 paths of 2 texts; axes per path, "
        "median (range): 1 (1 to 2) for 90\u00a0% of its variance, 1 (1 to 2) for 99\u00a0%"
    )
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["init 0", "init 1"]


def test_path_figure_of_many_texts_and_starts():
    draw = np.random.default_rng(0)
    found = {
        (f"text{text:02d}", start): {step: draw.normal(size=(1, 5)).tolist() for step in range(4)}
        for text in range(7)
        for start in range(8)
    }
    data = ablation_data.path_data(*paths(found))
    assert len(data) == 7 * 8 * 4
    figure = ablation_figures.path(data)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["books text00", "books text02", "books text04", "books text06"]
    assert {
        len([one for one in axes.lines if one.get_label() == "_path"]) for axes in figure.axes
    } == {6}
    note = figure.legends[0].get_title().get_text()
    assert "; 4 texts are drawn; n = 56 paths of 7 texts; " in note.replace("\n", " ")


def test_path_figure_where_a_text_has_later_starts_only():
    """As in a store of which some rows are older than paths."""
    draw = np.random.default_rng(0)
    places = [("a", start) for start in range(7)] + [("b", 6), ("b", 7)]
    found = {key: {step: draw.normal(size=(1, 5)).tolist() for step in range(4)} for key in places}
    figure = ablation_figures.path(ablation_data.path_data(*paths(found)))
    drawn = [len([one for one in axes.lines if one.get_label() == "_path"]) for axes in figure.axes]
    assert drawn == [6, 2]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [f"init {start}" for start in range(8)]


def test_a_record_without_a_path_is_left_out():
    """Rows of an older store next to newer ones."""
    rows, records = solutions()
    assert not len(ablation_data.path_data(rows, records))
    found = {("b", 1): PATHS["b", 1], ("c", 0): PATHS["a", 0]}
    newer, of_path = paths(found)
    both = table(*rows[rows["text_id"] == "a"].to_dict("records"), *newer.to_dict("records"))

    def either(task):
        return of_path(task) if task in ("pb1", "pc0") else records(task)

    # Text b has two points: too few for two axes.
    assert list(ablation_data.path_data(both, either)["text_id"]) == ["c"] * 3


def test_a_path_that_is_not_finite_is_left_out():
    found = {("a", 0): {0: [[float("nan"), 0.0, 0.0]]}, ("a", 1): PATHS["a", 1]}
    assert set(ablation_data.path_data(*paths(found))["start"]) == {1}


def test_a_path_whose_end_is_not_finite_leads_to_no_solution():
    found = {("a", 0): PATHS["a", 0] | {4: [[float("inf"), 0.0, 0.0]]}, ("a", 1): PATHS["a", 1]}
    assert set(ablation_data.path_data(*paths(found))["start"]) == {1}


def test_a_solution_that_is_not_finite_is_left_out():
    rows, records = solutions()
    spoilt = record([0.0], [0], ((float("nan"), 1.0),))

    def some(task):
        return spoilt if task == "a0" else records(task)

    data = ablation_data.pairs_data(rows, some)
    assert set(zip(data["first"], data["second"], strict=True)) == {("a1", "b1"), ("b0", "b1")}
    assert list(ablation_data.pca_data(rows, some)["start"]) == [1, 0, 1]
    assert not {"seeds-pairs", "seeds-pca"} & set(drawn_sections(rows, lambda _: spoilt))


def test_vectors_of_0_have_a_distance_and_no_cosine():
    rows, _ = solutions()
    found = drawn_sections(rows, lambda _: record([0.0], [0]))
    [figure] = found["seeds-pairs"].figures
    assert figure.name.startswith("seeds-distance")
    figure.draw(style.LIGHT)


def test_a_title_that_would_not_fit_is_broken():
    label = "Llama-3.2-1B · kuratov2025+t1"
    figures = {
        ablation_figures.line: ablation_data.line_data(solutions()[0]),
        ablation_figures.path: ablation_data.path_data(*paths()),
    }
    for draw, data in figures.items():
        figure = draw(data.assign(label=label))
        title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
        assert title.startswith(label)
        assert len(title) > 46 >= max(map(len, title.splitlines()))


def test_line():
    data = ablation_data.line_data(solutions()[0])
    assert list(data["share"]) == [0.0, 0.5, 1.0]
    axes = ablation_figures.line(data).axes[0]
    drawn = bars(axes)
    x, mean, low, high = drawn["correct tokens (teacher-forced)"]
    assert (x, mean) == ([0.0, 0.5, 1.0], [1.0, 0.5, 1.0])
    assert (low[1], high[1]) == (0.25, 0.75)
    assert drawn["exact texts (free-running)"][1] == [0.5, 0.0, 0.5]


def test_depth():
    rows = [
        row(f"{text}{n}", "depth", f"layers={n}", text, layers=n, horizon=h, censored=h == 20)
        for text, n, h in (("a", 1, 2), ("b", 1, 4), ("a", 6, 10), ("b", 6, 20))
    ]
    data = ablation_data.depth_data(table(*rows))
    assert list(data["censored_share"]) == [0.0, 0.5]
    drawn = bars(ablation_figures.depth(data).axes[0])
    assert drawn == {"books (up to 50 % censored)": ([1, 6], [3, 15], [2, 10], [4, 20])}


def horizons(values):
    return table(
        *(
            row(f"{i}", "horizon", text=f"{i}", tokens=3, lm_nats=2 * nats, horizon=h, censored=cut)
            for i, (nats, h, cut) in enumerate(values)
        )
    )


def test_surprisal():
    values = [(1.0, 9, False), (2.0, 7, False), (3.0, 5, False), (4.0, 6, False), (1.0, 99, True)]
    data = ablation_data.surprisal_data(horizons(values))
    figure = ablation_figures.surprisal(data)
    points = [tuple(map(tuple, one.get_offsets().data)) for one in figure.axes[0].collections]
    assert points == [((1.0, 9.0), (2.0, 7.0), (3.0, 5.0), (4.0, 6.0)), ((1.0, 99.0),)]
    note = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert note.startswith("Spearman's ρ = -0.80, 95 % interval [-")
    assert note.endswith("n = 4 texts that are not censored")


def test_a_text_of_which_one_token_was_held_has_no_surprisal():
    rows = horizons([(1.0, 2, False)])
    assert len(ablation_data.surprisal_data(rows)) == 1
    assert not len(ablation_data.surprisal_data(rows.assign(tokens=1)))


def test_every_section_has_its_figures_in_both_themes():
    every = [contexts(), solutions()[0], paths()[0], horizons([(1.0, 2, False)] * 5)]

    def records(task):
        return paths()[1](task) if task.startswith("p") else solutions()[1](task)

    rows = table(*(one for some in every for one in some.to_dict("records")))
    found = drawn_sections(rows, records)
    seeds = {"seeds-pairs", "seeds-pca", "seeds-path", "seeds-line"}
    assert set(found) == {"horizon-surprisal", "horizon-curves", "context"} | seeds
    names = [figure.name for one in found.values() for figure in one.figures]
    assert len(names) == len(set(names))
    for section in found.values():
        figure = section.figures[0].draw(style.DARK)
        figure.savefig(io.BytesIO(), dpi=30)


def test_without_ablations_there_is_nothing():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    rows = with_label(rows[rows["kind"] == "capacity"])
    found = drawn_sections(rows, records.__getitem__)
    assert set(found) == {"figure-3", "learning-curves", "accuracy-by-position"}


def test_a_model_cut_short_keeps_its_label():
    rows = [
        row("a", "horizon", fingerprint="f6"),
        row("b", "depth", "layers=1", fingerprint="f1"),
        row("c", "depth", "layers=6", fingerprint="f6"),
    ]
    assert set(with_label(table(*rows))["label"]) == {"pocket"}
    other = row("d", "depth", "layers=1", fingerprint="g1")
    assert with_label(table(*rows, other))["label"].nunique() == 3


def prefix_rows(**changes):
    found = []
    for text, held, held_by_prefix in (("a", 10, 30), ("b", 20, 30)):
        usual = {"text": text, "width": 256, "dtype": "float32", "budget_ended": False}
        found.append(row(f"m{text}", "prefix", horizon=held, **usual))
        values = {"horizon": held_by_prefix, "recipe": "direct", "layout": "mem+bos"}
        found.append(row(f"p{text}", "prefix", "prefix", **usual | {"width": 3072} | values))
    return table(*found).assign(**changes)


def test_prefix():
    data = prefixes.prefix_data(prefix_rows()).set_index("holder")
    assert data.loc["[mem]", ["n", "horizon", "numbers", "bytes"]].tolist() == [2, 15, 256, 1024]
    of_prefix = data.loc["prefix"]
    assert of_prefix[["n", "horizon", "numbers", "bytes"]].tolist() == [2, 30, 3072, 12288]
    assert of_prefix["tokens_per_position"] == 30
    assert of_prefix["tokens_per_thousand_numbers"] == pytest.approx(30 / 3.072)
    assert of_prefix["tokens_per_kilobyte"] == pytest.approx(30 / 12.288)
    assert (of_prefix["ratio"], of_prefix["ratio_low"], of_prefix["ratio_high"]) == (2, 1.5, 3)
    assert np.isnan(data.loc["[mem]", "ratio"])
    halved = prefixes.prefix_data(prefix_rows(vectors=2, dtype="bfloat16+float16"))
    halved = halved.set_index("holder")
    assert halved.loc["prefix", ["numbers", "bytes", "tokens_per_position"]].tolist() == [
        6144,
        12288,
        15,
    ]


def test_title_of_the_prefix_figure_is_wrapped():
    data = prefixes.prefix_data(prefix_rows()).assign(label="a/b-1.5B-Instruct.Q4_K_M.gguf")
    figure = prefixes.prefixes(data)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    [title] = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    assert title.get_window_extent().x1 <= figure.bbox.width


def test_prefix_figure():
    data = prefixes.prefix_data(prefix_rows())
    figure = prefixes.prefixes(data)
    panels = figure.axes
    drawn = [list(axes.containers) for axes in panels]
    assert [[c.get_label() for c in bars] for bars in drawn] == 3 * [["[mem]", "prefix"]]
    means = [[c.lines[0].get_xdata()[0] for c in bars] for bars in drawn]
    assert np.allclose(means, [[15, 30], [15 / 0.256, 30 / 3.072], [15 / 1.024, 30 / 12.288]])
    names = [name.get_text().replace("\n", "") for name in panels[0].get_yticklabels()]
    assert names == ["prefix, direct", "[mem], default"]
    assert "2.00 [1.50, 3.00] times the tokens in 12 times the numbers" in (
        prefixes.prefix_words(data)
    )
    spent = prefixes.prefixes(prefixes.prefix_data(prefix_rows(budget_ended=True)))
    assert [note.get_text() for note in spent.axes[0].texts] == ["≥ 15", "≥ 30"]


def test_prefix_section_and_labels():
    rows = with_label(prefix_rows(layout=["mem", "mem+bos"] * 2))
    assert set(rows["label"]) == {"pocket · default", "pocket · direct"}
    [section] = drawn_sections(rows, None).values()
    assert [one.name for one in section.figures] == ["prefix-pocket-books-k1"]
    assert "2.00 [1.50, 3.00] times" in section.figures[0].alt
    without = table(*(r for r in prefix_rows().to_dict("records") if r["condition"]))
    assert prefixes.prefix_data(without)["ratio"].isna().all()
    assert prefixes.prefix_words(prefixes.prefix_data(without)) == ""
