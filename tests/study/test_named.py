"""Every published study can be read, and runs two steps on a tiny model."""

import re
import tomllib
from collections import Counter

import pytest
from families import FAMILIES
from tokenizers import processors

import tiny
from memcram.errors import UsageError
from memcram.metrics.published import published_grid, published_results
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.objectives.cold_cross_entropy import ColdCrossEntropy
from memcram.recipes.parametrisations import LowDim
from memcram.study import named
from memcram.study.cells import cell_samples, cells
from memcram.study.named import named_studies, spec_text
from memcram.study.read import read_spec

# The architecture of each model, and whether its tokenizer adds a BOS.
ARCHITECTURES = {
    "pythia": ("GPT-NeoX (Pythia)", False),
    "opt-350m": ("OPT, narrow input", True),
    "opt-1.3b": ("OPT", True),
    "olmo": ("OLMo", False),
    "sheared-llama": ("Llama, grouped, untied", True),
    "llama-3": ("Llama, tied", True),
    "mamba": ("Mamba", False),
    "smollm2": ("SmolLM", False),
    "gemma-3": ("Gemma-3", True),
}
# One of each architecture; the others are slow tests.
QUICK = ("pythia-160m", "opt-350m", "mamba-130m", "llama-3.2-1b", "smollm2-1.7b", "gemma-3-4b")
QUICK += ("smollm2-135m", "pythia-1.4b-horizon")
REPOSITORY = "tarasov2026-repo"
NAMES = [study.name for study in named_studies()]
SCALE = 0.01


def architecture(name):
    return next(found for begins, found in ARCHITECTURES.items() if name.startswith(begins))


def shrunk(text, model):
    """The spec on another model: lengths and K within 128 positions, local texts, two steps."""
    text = re.sub(r"^models = .*$", f'models = ["{model}"]', text, flags=re.M)
    text = re.sub(r"^# steps = .*$", "", text, flags=re.M)
    text = re.sub(r"^seed = 0$", "seed = 0\nsteps = 2", text, flags=re.M)
    text = re.sub(r"^dataset = .*\n", "", text, flags=re.M)
    # Fan fiction and books must differ, or their tasks would be the same.
    files = '"files"\npath = "a.txt"\npassage_chars = '
    text = re.sub(
        r'name = "fanfics"\nsource = "hub-\w+"', f'name = "fanfics"\nsource = {files}301', text
    )
    text = re.sub(r'"hub-\w+"', f"{files}300", text)

    def divided(match):
        longest = max(int(n) for n in re.findall(r"\d+", match[2]))
        limit = 4 if match[1] == "vectors" else 12
        small = re.sub(r"\d+", lambda n: str(max(2, int(n[0]) * limit // longest)), match[2])
        return match[1] + small if longest > limit else match[0]

    return re.sub(r"^(vectors|lengths|lengths_up_to)( = .*)$", divided, text, flags=re.M)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_two_steps_on_a_tiny_model(name, tmp_path, measured):
    family, bos = architecture(name)
    tokenizer = tiny.byte_tokenizer()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    model = tiny.save_model(tmp_path / "model", FAMILIES[family], tokenizer)
    (tmp_path / "a.txt").write_text("The lamp in the harbour went out at nine. " * 40)
    path = tmp_path / f"{name}.toml"
    path.write_text(shrunk(spec_text(name, SCALE), model))
    spec = read_spec(path)
    store = measured(path)
    rows = store.rows()
    assert len(rows) == store.counts().done > 0
    assert {row.recipe for row in rows} == set(spec.study.recipes)
    assert {row.kind for row in rows} == {spec.study.kind}
    assert {row.bos_in_text for row in rows} == {bos}
    assert {row.source for row in rows} == {entry.name for entry in spec.study.texts}
    assert all(row.steps <= 2 for row in rows)
    cast = spec.study.autocast
    assert {row.dtype for row in rows} == {spec.study.dtype + (f"+{cast}" if cast else "")}
    if spec.study.kind == "capacity":
        assert {row.first_token_given for row in rows} == {True}
        texts = Counter((row.source, row.length, row.vectors) for row in rows)
        for cell in cells(spec):
            entry = spec.study.texts[cell.entry]
            if cell.length is not None:
                found = texts[entry.name, cell.length, cell.vectors]
                assert found == cell_samples(spec, cell)


IN_THE_PAPERS = [study.name for study in named_studies() if study.source != REPOSITORY]


@pytest.mark.parametrize("name", IN_THE_PAPERS)
def test_unscaled_spec_is_the_published_grid(name, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(spec_text(name))
    spec = read_spec(path)
    [model] = spec.study.models
    if spec.study.kind == "horizon":
        low_dim = "tarasov2026+low-dim" + ("@k=32" if name == "gemma-3-4b" else "")
        assert spec.study.recipes == ["tarasov2026", low_dim]
        assert (spec.study.samples, spec.study.vectors) == (50, [1])
        return
    wanted = Counter()
    for row in published_grid():
        for k in row.n_mem if row.hf_id == model.id else ():
            dtype = spec.study.autocast or spec.study.dtype
            assert row.dtype == dtype
            for length in row.lengths or (None,):
                # Positions of pythia-160m: 2,048, which some of the printed cells exceed.
                if name != "pythia-160m" or length is None or length + k - 1 <= 2048:
                    wanted[row.text, length, k, row.random_cap, row.samples] += 1
    found = Counter()
    for cell in cells(spec):
        entry = spec.study.texts[cell.entry]
        cap = entry.lengths_up_to
        found[entry.name, cell.length, cell.vectors, cap, cell_samples(spec, cell)] += 1
    assert found == wanted


SINCE = [study for study in named_studies() if study.source == REPOSITORY]


def test_every_value_of_the_repository_has_a_study():
    rows = [row for row in published_results() if row.study == REPOSITORY]
    assert {study.model for study in SINCE} == {row.hf_id for row in rows}
    assert len(rows) == 12


@pytest.mark.parametrize("study", SINCE, ids=lambda study: study.name)
def test_studies_of_the_repository_have_its_settings(study, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(spec_text(study.name))
    spec = read_spec(path).study
    [entry], [texts] = spec.models, spec.texts
    assert (entry.id, spec.kind, texts.source) == (study.model, "horizon", "hub-books")
    rows = [row for row in published_results() if (row.study, row.hf_id) == (REPOSITORY, entry.id)]
    cold = any("temperature" in row.quantity for row in rows)
    assert (spec.samples, spec.vectors, spec.dtype) == (50 if cold else 10, [1], "bfloat16")
    recipes = [get_recipe(name) for name in spec.recipes]
    assert {quantity(recipe) for recipe in recipes} == {row.quantity for row in rows}
    assert {recipe.group_size for recipe in recipes} == {None}
    assert {recipe.horizon.steps for recipe in recipes} == {10_000}


def quantity(recipe):
    """The published quantity that a recipe measures."""
    if isinstance(recipe.parametrisation, LowDim):
        assert recipe.parametrisation == LowDim(k=256, in_group=False)
        return "exact_horizon_low_dim"
    if isinstance(recipe.objective, ColdCrossEntropy):
        return f"exact_horizon_temperature_{recipe.objective.T:g}"
    return "exact_horizon"


def test_the_learning_rates_of_the_published_values_are_used_where_known():
    [direct, low_dim] = tomllib.loads(spec_text("smollm2-135m"))["recipes"]
    assert get_recipe(direct).optimiser.lr == 1
    assert get_recipe(low_dim).optimiser.lr == 0.01
    [direct] = tomllib.loads(spec_text("pythia-410m-horizon"))["recipes"]
    assert get_recipe(direct).optimiser.lr == 0.5
    tried = tomllib.loads(spec_text("llama-3.2-1b-horizon"))["recipes"]
    assert [get_recipe(name).optimiser.lr for name in tried] == [0.1, 0.5, 1, 5]


def test_a_model_with_two_studies_is_named_by_its_grid():
    assert 'kind = "capacity"' in spec_text("EleutherAI/pythia-410m")
    assert 'kind = "horizon"' in spec_text("HuggingFaceTB/SmolLM2-360M")


def test_prefix_takes_one_of_the_positions(tmp_path, monkeypatch):
    """1,920 tokens and 128 vectors are fed as 2,047 positions, or 2,048 with a BOS."""
    monkeypatch.setattr(named, "_POSITIONS", {"EleutherAI/pythia-160m": 2047})
    path = tmp_path / "a.toml"
    found = {}
    for layout in ("mem", "mem+bos"):
        path.write_text(spec_text("pythia-160m", layout=layout))
        spec = read_spec(path)
        assert [model.layout for model in spec.study.models] == [layout]
        found[layout] = {(cell.length, cell.vectors) for cell in cells(spec)}
    longest = {(1920, 128), (1984, 64), (2016, 32)}
    assert found["mem"] - found["mem+bos"] == longest
    assert found["mem+bos"] < found["mem"]


def test_scale_keeps_the_ends():
    whole, small = (tomllib.loads(spec_text("pythia-160m", scale)) for scale in (1, 0.1))
    first, thin = whole["texts"][0], small["texts"][0]
    assert (first["samples"], thin["samples"]) == (50, 5)
    assert (thin["lengths"][0], thin["lengths"][-1]) == (8, 2016)
    assert set(thin["lengths"]) < set(first["lengths"])
    assert len(thin["lengths"]) == 6  # √0.1 of 19


@pytest.mark.parametrize("model", ["pocket", "./my model", "Qwen/Qwen3-0.6B", "a\"b'"])
def test_a_starter_for_any_model(model, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(spec_text(model))
    assert read_spec(path).study.models[0].id == model


def test_empty_name_is_refused():
    with pytest.raises(UsageError, match="name: got nothing"):
        spec_text(" ")


@pytest.mark.parametrize(
    ("name", "scale", "says"),
    [
        ("pocket", float("nan"), "scale: got nan, allowed: "),
        ("a\nb", 1.0, "name: got 'a\\nb', allowed: "),
        ("\udcff", 1.0, "name: got '\\udcff', allowed: "),
    ],
)
def test_wrong_arguments_are_refused(name, scale, says):
    with pytest.raises(UsageError) as caught:
        spec_text(name, scale)
    assert str(caught.value).startswith(says)
