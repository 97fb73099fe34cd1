"""The table and the figure of probes: what is drawn is what the records say."""

import io

import numpy as np
import pandas as pd
import pytest
import torch

from memcram.report import probe_data, probe_figures, style
from memcram.report.data import ReportData
from memcram.report.horizons import published_horizons
from memcram.report.probe_data import chosen
from memcram.report.sections import sections
from memcram.report.tables import published_table
from memcram.study.results import TokenRecord, column_types


def row(task, *, exact=True, **values):
    usual = {"task": task, "kind": "probe", "condition": "", "text_id": task, "exact": exact}
    usual |= {"label": "pocket", "model": "pocket", "source": "books", "vectors": 1}
    usual |= {"length": 5, "tokens": 5, "bos_in_text": False, "first_token_given": False}
    usual |= {"recipe": "default", "censored": False, "layers": 2, "horizon": 5}
    usual |= {"n_counted": 5, "lm_right": 1}
    return dict.fromkeys(column_types()) | usual | values


def record(shift=0.0, items=True):
    """A probe whose advantages are 1 + shift, 3 + shift, shift and −1 + shift."""
    zero, other = torch.zeros(5), 9.0 + shift
    nats = [[[0.0, other - advantage], [0.0, other + shift]] for advantage in (1.0, 3.0, 0.0, -1.0)]
    return TokenRecord(
        mem=torch.zeros(1, 2),
        ids=zero.long(),
        mem_nats=zero,
        lm_nats=zero,
        mem_ranks=zero.long(),
        lm_ranks=zero.long(),
        margins=zero,
        learned_step=zero.long(),
        curve=torch.zeros(0, 3),
        probe_nats=torch.tensor(nats),
        probe_attention=torch.tensor([[[0.5, 0.1], [0.2, 0.4]], [[0.1, 0.1], [0.1, 0.3]]]),
        probe_cuts=torch.tensor(
            [[[5.0, 0.1], [2.0, 3.0], [4.0, 1.0]], [[5.0, 0.1], [2.0, 3.0], [1.0, 4.0]]]
        ),
        probe_item_nats=torch.tensor([[[1.0, 2.0]], [[2.0, 1.0]], [[1.0, 2.0]]]) if items else None,
        probe_items=torch.tensor([[0, 1, 1]]) if items else None,
    )


RECORDS = {"a": record(), "b": record(2.0), "c": record(100.0)}
ROWS = pd.DataFrame([row("a"), row("b"), row("c", exact=False)])


def data(rows=ROWS, records=RECORDS):
    return probe_data.probe_data(rows, records.__getitem__)


def drawn_sections(rows):
    """Sections of the rows by key."""
    found = ReportData(rows, RECORDS.__getitem__, lambda *_: [], ())
    return {one.key: one for one in sections(found, published_table(), published_horizons())}


def test_means_are_over_exact_texts_and_differences_are_paired():
    found = data()
    assert set(found["n"]) == {2}
    assert set(found["not_exact"]) == {1}
    advantages = chosen(found, "advantage").set_index("context")
    assert dict(advantages["value"]) == {"mem": 2.0, "passage": 4.0, "none": 1.0, "random": 0.0}
    assert (advantages.loc["mem", "low"], advantages.loc["mem", "high"]) == (1.0, 3.0)
    # Both texts have the same difference, whatever their advantages.
    over = chosen(found, "advantage_over_none", "mem").iloc[0]
    assert (over["value"], over["low"], over["high"]) == (1.0, 1.0, 1.0)
    assert chosen(found, "bare_correct")["value"].tolist() == [0.25]
    heads = chosen(found, "attention", "mem")
    assert sorted(heads["value"]) == pytest.approx([0.1, 0.2, 0.4, 0.5])
    assert heads["low"].isna().all()
    # The same for all texts, so without an interval over texts.
    assert chosen(found, "items", "none")["low"].isna().all()
    assert chosen(found, "items_change", "mem")["value"].tolist() == [-1.0]


def test_figure_draws_the_table():
    figure = probe_figures.probe(data())
    advantage, wins, curve, heat, items = (
        axes for axes in figure.axes if axes.get_label() != "<colorbar>"
    )
    [points] = [one for one in advantage.containers if one.get_label() == "_advantage"]
    assert list(points.lines[0].get_xdata()) == [2.0, 4.0, 1.0, 0.0]
    names = [tick.get_text() for tick in advantage.get_yticklabels()]
    assert names == ["[mem]", "the passage", "nothing", "a random vector"]
    notes = [one.get_text() for one in advantage.texts]
    assert notes == ["+1.00 [+1.00, +1.00]", "+3.00 [+3.00, +3.00]", "−1.00 [−1.00, −1.00]"]
    [points] = wins.containers
    assert list(points.lines[0].get_xdata()) == [1.0, 1.0, 0.0]
    lines = {one.get_label(): one.lines[0].get_ydata().tolist() for one in curve.containers}
    assert lines == {"cut in layer i only": [0.4, 0.8], "cut in layers 1 to i": [1.0, 0.4, 0.2]}
    [bare] = [line for line in curve.lines if line.get_label() == "bare LM"]
    assert set(bare.get_ydata()) == {0.25}
    [mesh] = heat.collections
    assert np.allclose(np.asarray(mesh.get_array()).reshape(2, 2), [[0.5, 0.2], [0.1, 0.4]])
    by_name = {one.get_label(): list(one.lines[0].get_xdata()) for one in items.containers}
    assert by_name["items by likelihood"] == [1.0, 0.0, 1.0]
    note = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert "n = 2 texts of 5 tokens (median), 1 not exact and left out" in note


def test_figure_without_items_has_four_panels():
    records = {"a": record(items=False), "b": record(1.0, items=False)}
    found = data(ROWS[:2], records)
    assert not len(chosen(found, "items"))
    figure = probe_figures.probe(found)
    assert len([axes for axes in figure.axes if axes.get_label() != "<colorbar>"]) == 4
    assert "all exact" in probe_figures.words(found)


@pytest.mark.parametrize("theme", style.THEMES, ids=lambda theme: theme.name)
def test_single_text_can_be_drawn(theme):
    """One text has no interval."""
    image = style.to_png(probe_figures.probe(data(ROWS[:1]), theme), theme)
    assert io.BytesIO(image).read(8) == b"\x89PNG\r\n\x1a\n"


def test_nothing_exact_gives_no_figure():
    found = data(ROWS[2:])
    assert not len(found)
    assert "probe" not in drawn_sections(ROWS[2:])


def test_page_has_the_figure_and_a_table():
    section = drawn_sections(ROWS)["probe"]
    assert [one.name for one in section.figures] == ["probe-pocket-books-k1"]
    assert "n = 2 texts of 5 tokens (median), 1 not exact" in section.figures[0].alt
    [cells] = section.rows
    shown = dict(zip(section.header, cells, strict=True))
    assert shown["Model"] == ("pocket", "")
    assert shown["n"] == ("2", "")
    assert shown["Advantage after [mem] (nats per token)"] == ("2", "[1, 3]")
    assert shown["change with [mem]"] == ("−1", "[−1, −1]")
