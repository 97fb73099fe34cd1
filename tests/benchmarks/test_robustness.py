"""Which margin survives: the rows, what is said of them, and the command on a tiny model."""

import json

import pytest
from click.testing import CliRunner

import robustness
from arena.survival import summarise, survival_tables
from memcram.errors import UsageError
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.strategies import Fixed


@pytest.mark.parametrize("margin", robustness.MARGINS)
def test_the_margin_asked_for_is_the_strategy_s(margin):
    polished = robustness.polished(get_recipe("default"), margin)
    assert polished.strategy == Fixed(steps=800, margin=margin)
    assert polished.objective == get_recipe("default").objective


def test_a_strategy_without_a_margin_is_refused():
    with pytest.raises(UsageError, match="Progressive, which has no margin"):
        robustness.polished(get_recipe("tarasov2026"), 0.1)


def row(name, asked, margin, *survives, right=True):
    return {
        "id": name,
        "asked": asked,
        "right": right,
        "margin": margin,
        "steps": 10,
        "token_steps": 120,
        "survives": dict(zip(("plain", "rounded"), survives, strict=True)) if right else {},
    }


ROWS = [
    row("a", 0.0, 0.03, True, False),
    row("b", 0.0, 0.004, True, True),
    row("c", 0.0, -2.0, right=False),
    # The margin was exceeded at the same step as before.
    row("a", 0.02, 0.03, True, False),
    row("b", 0.02, 0.04, True, True),
    row("c", 0.02, -2.0, right=False),
]


def test_shares_are_of_the_texts_that_are_right():
    found = summarise(ROWS)
    first, second = found["by_asked"]
    assert (first["texts"], first["right"], first["reached"]) == (3, 2, 2)
    assert (first["steps"], first["token_steps"]) == (10, 120)
    assert first["median_margin"] == pytest.approx(0.017)
    assert first["survives"]["plain"]["share"] == 1.0
    assert first["survives"]["rounded"]["share"] == 0.5
    # Wilson's interval of 1 of 2, from its formula with z = 1.96.
    assert first["survives"]["rounded"]["ci95"] == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert second["survives"]["rounded"]["share"] == 0.5


def test_a_stop_stands_in_its_bin_once():
    found = summarise(ROWS)
    bins = {(one["above"], one["up_to"]): one for one in found["by_reached"]}
    assert {edges: one["n"] for edges, one in bins.items()} == {(0.0, 0.005): 1, (0.02, 0.05): 2}
    assert bins[0.02, 0.05]["survives"]["rounded"]["share"] == 0.5
    assert found["lost_up_to"] == {"plain": None, "rounded": 0.03}


def test_no_text_that_is_right_is_no_fault():
    found = summarise([row("c", 0.0, -2.0, right=False)])
    assert (found["by_reached"], found["lost_up_to"]) == ([], {})
    assert "0" in survival_tables(found | {"tokens": 12, "vectors": 1})


def test_the_command_from_a_book_to_the_figure(tiny_folder, tmp_path):
    for name in ("a", "b"):
        text = f"{name}: the lamp in the harbour went out. " * 20
        (tmp_path / f"{name}.txt").write_text(text)
    out = tmp_path / "out.json"
    arguments = [tmp_path / "a.txt", tmp_path / "b.txt", "--model", tiny_folder, "--device", "cpu"]
    arguments += ["--samples", 3, "--tokens", 3, "--steps", 40, "-o", out, "--figures", tmp_path]
    found = CliRunner().invoke(robustness.main, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.output
    report = json.loads(out.read_text())
    assert report["books"] == {"reporting": ["b.txt"]}
    assert len(report["rows"]) == 3 * len(robustness.MARGINS)
    assert "bfloat16 model" in found.output
    assert {path.name for path in tmp_path.glob("robustness.*")} == {
        "robustness.png",
        "robustness.svg",
    }
    right = [one for one in report["rows"] if one["right"]]
    assert right
    for one in right:
        assert one["margin"] > 0
        # In float32 a batch's size moves a margin by about 1e-5.
        assert one["margin"] < 1e-3 or one["survives"]["batches of 1"]
        # Polishing goes on where the smaller margin stopped.
        less = [other for other in right if other["id"] == one["id"]]
        assert all(o["steps"] <= one["steps"] for o in less if o["asked"] < one["asked"])


def test_without_texts_there_is_nothing_to_measure():
    found = CliRunner().invoke(robustness.main, [])
    assert found.exit_code == 2
    assert "--quick" in found.output
