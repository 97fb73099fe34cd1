"""Horizons of studies and their ratios, on made-up rows; the specs of the comparisons."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import compare
import plausible
from compare import Setting
from memcram.cli import run
from memcram.errors import UsageError
from memcram.recipes.catalogue import get_recipe
from memcram.study.read import read_spec
from memcram.study.results import ResultRow

SPECS = sorted((Path(compare.__file__).parent / "specs").glob("*.toml"))
ONE = Setting("pocket", 1, "one")
TWO = Setting("pocket", 1, "two")


@pytest.fixture(scope="module")
def row():
    rows, _ = plausible.study(samples=1, vectors=(1,), models=("pocket",))
    return replace(ResultRow(**rows.iloc[0].to_dict()), recipe="one", condition="")


def test_a_grid_holds_the_longest_exact_length(row):
    def at(length, exact, text="a"):
        horizon = length if exact else 3
        return replace(
            row, kind="capacity", text_id=text, length=length, horizon=horizon, exact=exact
        )

    rows = [at(4, True), at(6, False), at(8, True), at(12, False), at(4, False, "b")]
    assert compare.horizons(rows) == {ONE: {"a": 8, "b": 0}}


def test_a_horizon_is_taken_as_it_is(row):
    grown = replace(row, kind="horizon", exact=False, horizon=17)
    assert compare.horizons([grown]) == {ONE: {row.text_id: 17}}
    with pytest.raises(UsageError, match="seeds"):
        compare.horizons([replace(row, kind="seeds")])


def test_a_ratio_is_paired_by_text():
    small = {"a": 1, "b": 5, "c": 20, "d": 9}
    large = {text: 3 * small[text] for text in reversed(small)}
    found = compare.ratio(ONE, large, TWO, small)
    assert (found.n, found.ratio) == (4, pytest.approx(3))
    assert found.ci95 == pytest.approx((3, 3))
    assert found.difference == pytest.approx(2 * 35 / 4)
    assert 2 <= found.difference_ci95[0] < found.difference < found.difference_ci95[1] <= 40


def test_a_ratio_spreads_as_its_texts_do():
    large = dict(zip("abcd", [20, 22, 24, 30], strict=True))
    found = compare.ratio(ONE, large, TWO, dict.fromkeys("abcd", 10))
    assert found.ratio == pytest.approx(2.4)
    assert 2.0 < found.ci95[0] < 2.4 < found.ci95[1] < 3.0


def test_a_ratio_needs_the_same_texts_and_something_held():
    with pytest.raises(UsageError, match="same texts"):
        compare.ratio(ONE, {"a": 3}, TWO, {"b": 3})
    assert compare.ratio(ONE, {"a": 3, "b": 4}, TWO, {"a": 0, "b": 4}).ci95 is None
    nothing = {ONE: {"a": 3, "b": 4}, TWO: {"a": 0, "b": 0}}
    assert [against for _, _, against in compare.compared(nothing)] == [None, None]


def test_recipes_are_compared_within_a_model_and_k():
    texts = {"a": 8, "b": 10}
    lines = compare.compared({ONE: texts, TWO: texts, replace(ONE, vectors=4): texts})
    pairs = [against and (against.over, against.under) for _, _, against in lines]
    assert pairs == [None, ("one", "two"), None]


SPEC = """
name = "{kind}"
kind = "{kind}"
models = ["{model}"]
recipes = ["{recipe}"]
lengths = {lengths}
samples = 3
token_steps = 2000

[[texts]]
name = "mine"
source = "files"
path = "book.txt"
"""


def test_recipes_of_two_studies_run_on_the_same_texts(tmp_path, tiny_folder):
    (tmp_path / "book.txt").write_text("The lamp in the harbour went out at nine. " * 20)
    stores = []
    for kind, recipe, lengths in (
        ("horizon", "default", [12]),
        ("capacity", "kuratov2025+t1@lr=0.3", [1, 2, 3]),
    ):
        spec = tmp_path / f"{kind}.toml"
        spec.write_text(SPEC.format(kind=kind, recipe=recipe, lengths=lengths, model=tiny_folder))
        assert run(["study", "run", str(spec), "--device", "cpu", "--quiet"]) == 0
        stores.append(str(spec.with_suffix(".study")))
    out = tmp_path / "found.json"
    found = CliRunner().invoke(compare.main, [*stores, "-o", str(out)])
    assert found.exit_code == 0, found.output
    growing, fixed = json.loads(out.read_text())
    assert (growing["recipe"], fixed["recipe"]) == ("default", "kuratov2025+t1@lr=0.3")
    assert growing["horizon"]["mean"] > 0
    assert fixed["ratio"]["n"] == growing["horizon"]["n"] == 3


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_fair(path):
    study = read_spec(path).study
    assert study.name == path.stem
    assert study.token_steps is not None
    assert not any(get_recipe(name).first_token_given for name in study.recipes)
    if path.stem.endswith("-lengths"):
        growing = read_spec(path.with_stem(path.stem.removesuffix("-lengths"))).study
        for key in ("models", "vectors", "samples", "token_steps", "seed", "texts"):
            assert getattr(growing, key) == getattr(study, key), key
