"""Compile the copy of the model that is optimised; the model itself stays as it is."""

import shutil

import pytest
import torch

import memcram
from memcram import CramRequest, Engine
from memcram.cli import main
from memcram.engine.compute import recorded_settings
from memcram.errors import ModelError, UsageError
from memcram.models.families import decoder_layers

FEWER = {"compress": [], "plan": ["--samples", "2"], "horizon": ["--samples", "2"]}
RECIPE = memcram.get_recipe("default").with_steps(6)


def is_changed(lm):
    """Which layers have a `forward` of their own."""
    return ["forward" in vars(one) for one in decoder_layers(lm.module, lm.layers)]


@pytest.fixture
def fresh(tiny_folder):
    """A model without copies that other tests made."""
    return memcram.load_lm(str(tiny_folder), device="cpu")


@pytest.fixture
def cxx(monkeypatch):
    """A compiler that is found on any machine."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")


@pytest.mark.parametrize("wanted", ["auto", "float32"])
def test_the_models_dtype_is_refused(pocket, cxx, wanted, tmp_path):
    with pytest.raises(UsageError) as caught:
        Engine(pocket, RECIPE, compute_dtype=wanted, compile_trunk=True)
    assert caught.value.argument == "compile_trunk"
    assert str(caught.value) == (
        "compile_trunk: the model is optimised in its own dtype, float32, "
        "allowed: a model in float32 or float64 with a compute dtype of bfloat16"
    )
    partial = tmp_path / "a.partial"
    with pytest.raises(UsageError, match="compile_trunk"):
        memcram.compress("Snow.", pocket, compute_dtype=wanted, compile_trunk=True, partial=partial)
    assert not partial.exists()


def test_a_missing_compiler_is_named(pocket, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError) as caught:
        Engine(pocket, RECIPE, compute_dtype="bfloat16", compile_trunk=True)
    assert str(caught.value) == (
        "compile_trunk: the C++ compiler 'no-such-compiler' is not found, "
        "allowed: one on the PATH, or named in the variable CXX"
    )


@pytest.mark.parametrize("command", ["compress", "plan", "horizon"])
def test_the_command_line_names_its_option(command, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_text("Snow lay on the sill. " * 9, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([command, "a.txt", "--device", "cpu", "--compile", *FEWER[command]])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("memcram: --compile: the model is optimised in its own dtype")
    assert shown.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_trunk_without_the_layers_is_refused(pocket):
    with pytest.raises(ModelError, match="the decoder layers of LlamaModel are not found"):
        decoder_layers(pocket.module.base_model, 99)


def test_only_the_low_precision_copy_is_compiled(fresh, cxx, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda layer: compiled.append(layer) or layer)
    eager = Engine(fresh, RECIPE, compute_dtype="bfloat16")
    engine = Engine(fresh, RECIPE, compute_dtype="bfloat16", compile_trunk=True)
    assert len(compiled) == fresh.layers
    assert all(is_changed(engine._trunk))
    assert not any(is_changed(fresh) + is_changed(eager._trunk))
    assert engine._finisher._trunk is fresh
    ours, theirs = engine._trunk.module.parameters(), eager._trunk.module.parameters()
    assert all(a.data_ptr() == b.data_ptr() for a, b in zip(ours, theirs, strict=True))
    again = Engine(fresh, RECIPE, compute_dtype="bfloat16", compile_trunk=True)
    assert again._trunk is engine._trunk
    request = CramRequest("a", torch.arange(8))
    [one], [other] = engine.run([request]), eager.run([request])
    assert torch.equal(one.mem, other.mem)


def test_what_torchs_compiler_raises_is_one_line(fresh, cxx, monkeypatch):
    class InductorError(RuntimeError):
        """As of torch's compiler, whose import takes seconds."""

    InductorError.__module__ = "torch._inductor.exc"

    def failing(*args, **kwargs):
        raise InductorError("ImportError: a.so: file too short\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", lambda layer: failing)
    engine = Engine(fresh, RECIPE, compute_dtype="bfloat16", compile_trunk=True)
    with pytest.raises(ModelError) as caught:
        list(engine.run([CramRequest("a", torch.arange(8))]))
    assert str(caught.value) == (
        "torch.compile failed (ImportError: a.so: file too short); run without compiling"
    )


def test_it_is_recorded_where_it_is_used(pocket):
    usual = RECIPE.settings()
    assert recorded_settings(RECIPE, pocket, torch.float32) == usual
    low = usual | {"compute_dtype": "bfloat16"}
    assert recorded_settings(RECIPE, pocket, torch.bfloat16) == low
    with_compile = recorded_settings(RECIPE, pocket, torch.bfloat16, compile_trunk=True)
    assert with_compile == low | {"compile": True}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's compiler raises and hides some
def test_compiled_and_exact_when_decoded_eagerly(pocket):
    text = "Snow lay on the sill."  # one chunk, so one shape
    options = {"compute_dtype": "bfloat16", "chunk_tokens": 8, "steps": 150}
    archive = memcram.compress(text, pocket, compile_trunk=True, **options)
    assert not any(is_changed(pocket))
    assert memcram.decompress(archive, pocket).decode() == text
    assert archive.summary()["tokens_corrected"] == 0
    assert archive.tensors.vectors.dtype == torch.float32
    assert archive.manifest.recipe["compile"] is True
    # Another compiler rounds differently, so equal vectors mean that nothing was compiled.
    eager = memcram.compress(text, pocket, **options)
    assert not torch.equal(eager.tensors.vectors, archive.tensors.vectors)
