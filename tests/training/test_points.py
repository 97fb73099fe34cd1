"""Figures of `training.pocket.points` from small tables: what is plotted is what the tables say."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from memcram.metrics.statistics import spread
from memcram.study.results import column_types
from training.pocket import points

MODELS = {"points/0": 8.3, "points/50000": 7.0, "pocket": 3.6, "neox/model": 4.5}
WIDTHS = {"neox/model": 128}
HORIZONS = {"points/0": (1, 2), "points/50000": (4, 6), "pocket": (20, 26), "neox/model": (9, 11)}
LAYERS = {1: (3, 5), 6: (20, 26)}


def row(model, horizon, **values):
    """Every token held is correct, and none under the bare LM; and 2 nats per token from t₂ on."""
    usual = {"kind": "horizon", "condition": "", "model": model, "vectors": 1, "layers": 6}
    usual |= {"parameters": 1000, "width": WIDTHS.get(model, 256), "horizon": horizon}
    usual |= {"mem_right": horizon - 1, "lm_right": 0, "mem_nats": 0.5}
    usual |= {"lm_nats": 2.0 * (horizon - 1)}
    return dict.fromkeys(column_types()) | usual | values


@pytest.fixture
def rows():
    horizons = [row(model, n) for model, both in HORIZONS.items() for n in both]
    depths = [
        row("pocket", n, kind="depth", layers=layers, condition=f"layers={layers}")
        for layers, both in LAYERS.items()
        for n in both
    ]
    return pd.DataFrame(horizons + depths)


@pytest.fixture
def models():
    columns = {"standard_error": 0.1, "books": 3, "windows": 8, "window_tokens": 128}
    return pd.DataFrame(
        [{"model": model, "nats_per_token": nats} | columns for model, nats in MODELS.items()]
    )


def lines(axes):
    """(x, mean, low, high) of each line with intervals, in the order drawn."""
    found = []
    for container in axes.containers:
        drawn, _, (ends,) = container.lines
        segments = np.array(ends.get_segments())
        both = segments[:, 0, 1].tolist(), segments[:, 1, 1].tolist()
        found.append((list(drawn.get_xdata()), list(drawn.get_ydata()), *both))
    return found


def test_panels_show_means_and_intervals_of_the_rows(rows, models):
    training, nats, quality, depth = points.figure(rows, models).axes
    horizon, gain, packaged, packaged_gain = lines(training)
    assert horizon[:2] == ([0, 1], [1.5, 5.0])
    assert gain[:2] == ([0, 1], [0.5, 4.0])
    assert (packaged[:2], packaged_gain[:2]) == (([2], [23.0]), ([2], [22.0]))
    low, high = spread([20, 26]).ci95
    assert (packaged[2][0], packaged[3][0]) == pytest.approx((low, high))
    assert [label.get_text() for label in training.get_xticklabels()] == ["0", "50k", "30M"]
    # 2 nats for each token of 2 … N, less the 0.5 that are left with [mem]
    assert [line[1] for line in lines(nats)] == [[0.5, 7.5], [43.5]]
    assert [line[:2] for line in lines(quality)] == [
        ([8.3, 7.0], [1.5, 5.0]),
        ([4.5], [10.0]),
        ([3.6], [23.0]),
    ]
    assert [text.get_text() for text in quality.texts] == ["neox, 128", "pocket, 256"]
    assert lines(depth)[0][:2] == ([1, 6], [4.0, 23.0])
    assert [label.get_text() for label in depth.get_xticklabels()] == ["1", "6"]


def test_the_note_states_n(rows, models):
    drawn = points.figure(rows, models)
    assert "n = 2 texts per mark" in drawn.legends[0].get_title().get_text()


def test_commands_draw_from_files(rows, models, tmp_path):
    rows.to_csv(tmp_path / "rows.csv", index=False)
    models.to_csv(tmp_path / "models.csv", index=False)
    curve = pd.DataFrame({"tokens": [0, 1000], "held_out_nats": [8.3, 6.0]})
    curve.to_csv(tmp_path / "curve.csv", index=False)
    for command in (
        f"draw {tmp_path / 'rows.csv'} --models {tmp_path / 'models.csv'} -o {tmp_path / 'a.png'}",
        f"curves neox={tmp_path / 'curve.csv'} -o {tmp_path / 'b.png'}",
    ):
        ended = CliRunner().invoke(points.main, command, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
    assert all((tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in ("a.png", "b.png"))


def test_curves_plot_what_a_run_wrote():
    curve = pd.DataFrame({"tokens": [0, 2_000_000], "held_out_nats": [8.3, 5.0]})
    [line] = points.curves_figure({"neox": curve}).axes[0].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.0, 2.0], [8.3, 5.0])
    assert line.get_label() == "neox"


def test_numbers_of_tokens_in_short():
    assert [points.short(n) for n in (0, 50_000, 1_500_000, 30e6)] == ["0", "50k", "1.5M", "30M"]
