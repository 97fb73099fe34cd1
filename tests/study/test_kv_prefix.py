"""The kind `prefix`: the same texts into vectors and into a prefix of keys and values."""

import pytest
import torch

import tiny
from memcram.errors import MemcramError, UsageError
from memcram.models import decoding, load_lm
from memcram.models.prefix import PrefixLM
from memcram.study.grid import expand
from memcram.study.read import read_spec

PREFIX = 'kind = "prefix"\nprefix_recipes = ["direct@lr=1.0,first=1"]\nlengths'


@pytest.fixture
def prefix_spec(write_spec):
    """Write a spec of the kind with one source: `prefix_spec((old, new))`."""

    def write(*changes):
        path = write_spec(("lengths =", f"{PREFIX} ="), ("lengths = [4, 9]", "lengths = [9]"))
        text = path.read_text().partition('\n[[texts]]\nname = "words"')[0]
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return path

    return write


def test_both_hold_the_same_texts(prefix_spec, measured, tiny_lm):
    store = measured(prefix_spec(("steps = 8", "steps = 60"), ("samples = 3", "samples = 1")))
    rows = {name: [r for r in store.rows() if r.condition == name] for name in ("", "prefix")}
    for vectors, prefix in zip(rows[""], rows["prefix"], strict=True):
        assert (vectors.text_id, vectors.length) == (prefix.text_id, prefix.length)
        assert vectors.vectors == prefix.vectors
        assert (vectors.recipe, prefix.recipe) == ("default", "direct@lr=1.0,first=1")
        assert (vectors.width, prefix.width) == (tiny_lm.input_width, 128)
        assert (vectors.layout, prefix.layout) == ("mem", "mem+bos")
    assert {row.vectors for row in rows["prefix"]} == {1, 2}
    assert sum(row.horizon for row in rows["prefix"]) > 0
    for row in rows["prefix"]:
        record = store.record(row.task)
        assert (record.mem.shape, record.mem.dtype) == ((row.vectors, 128), torch.float32)
        [back] = decoding.greedy(PrefixLM(tiny_lm, row.vectors), [record.mem], [row.horizon])
        assert torch.equal(back.ids, record.ids[: row.horizon])
        assert int((record.margins > 0).sum()) == row.n_right


def test_budget_is_that_of_the_spec_for_both(prefix_spec, tiny_lm):
    tasks = expand(read_spec(prefix_spec(("steps = 8", "token_steps = 500"))), 0, tiny_lm)
    assert {task.recipe.settings()["strategy"]["token_steps"] for task in tasks} == {500}
    assert {task.kv_prefix for task in tasks} == {0, 1, 2}
    assert len({task.id for task in tasks}) == len(tasks)


def test_settings_of_both_recipes_are_recorded(prefix_spec, measured):
    store = measured(prefix_spec(("vectors = [1, 2]", "vectors = [1]"), ("steps = 8", "steps = 1")))
    settings = {task: found["optimiser"]["lr"] for task, found in store.recipes().items()}
    assert {settings[row.task] for row in store.rows() if row.condition} == {1.0}
    assert len(settings) == len(store.rows())


MISTAKES = {
    "unknown recipe": (
        ('["direct@lr=1.0,first=1"]', '["direct", "nothing"]'),
        "prefix_recipes[1]: got 'nothing', allowed: default, ",
    ),
    "recipe without a horizon": (
        ('["direct@lr=1.0,first=1"]', '["kuratov2025"]'),
        "prefix_recipes[0]: ",
    ),
    "no recipe": (('["direct@lr=1.0,first=1"]', "[]"), "prefix_recipes: got [], allowed: "),
    "compiled": (
        ("steps = 8", 'steps = 8\ncompute_dtype = "bfloat16"\ncompile = true'),
        "compile: got True, allowed: false for 'prefix'",
    ),
    "an archive to start from": (
        ("steps = 8", 'steps = 8\ninit = "a.safetensors"'),
        "init: got an archive, but 'prefix' trains more than input vectors",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named(mistake, prefix_spec):
    change, says = MISTAKES[mistake]
    path = prefix_spec(change)
    with pytest.raises(UsageError) as caught:
        read_spec(path)
    assert str(caught.value).startswith(f"{path}: {says}")


def test_model_that_takes_no_prefix_is_refused_in_one_line(prefix_spec, tmp_path):
    config = tiny.llama_config(num_hidden_layers=1, num_key_value_heads=1, head_dim=8)
    lm = load_lm(str(tiny.save_model(tmp_path / "narrow", config)), device="cpu")
    with pytest.raises(MemcramError) as caught:
        expand(read_spec(prefix_spec()), 0, lm)
    assert str(caught.value).endswith("it has narrower keys and values than input vectors")
    assert "\n" not in str(caught.value)
