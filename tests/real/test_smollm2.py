"""SmolLM2-135M-Instruct, dequantised from GGUF: every command, on real weights."""

import json
from pathlib import Path

import pytest
import torch

import memcram
from memcram.cli import run
from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine
from memcram.recipes.strategies.fixed import Fixed

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"
SENTENCE = "The old ferryman would not take them across until he had finished his pipe."


def json_of(capsys, *arguments):
    code = run([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


@pytest.fixture(scope="module")
def archive(tmp_path_factory, smollm2_path):
    """A sentence in one vector, made by the command line."""
    folder = tmp_path_factory.mktemp("archive")
    text = folder / "sentence.txt"
    text.write_text(SENTENCE)
    assert run(["compress", str(text), "--model", str(smollm2_path), "--device", "cpu", "-q"]) == 0
    return folder / "sentence.txt.mem.safetensors"


def test_the_model_is_the_one_described(smollm2):
    assert (smollm2.input_width, smollm2.vocab_size, smollm2.layers) == (576, 49_152, 30)
    assert smollm2.max_positions == 8192
    assert 134e6 < smollm2.parameters < 136e6


def test_it_reads_english(smollm2, passage_ids):
    """A wrong rope base, permutation or dequantisation would cost several nats per token."""
    [scored] = memcram.score(smollm2, [passage_ids])
    assert scored.nats[1:].mean().item() < 4.0


def test_there_and_back(archive, tmp_path, capsys):
    made = json_of(capsys, "inspect", archive)
    assert made["tokens_per_vector"] > 10
    restored = tmp_path / "restored.txt"
    json_of(capsys, "decompress", archive, "-o", restored)
    assert restored.read_text() == SENTENCE
    verified = json_of(capsys, "verify", archive)
    assert verified["restored"]
    assert verified["max_margin_shift"] < 0.01


def test_the_archive_of_the_readme_decodes(smollm2_path, tmp_path, capsys):
    """Made on another machine, or another day: 105 tokens in one vector."""
    restored = tmp_path / "ferry.txt"
    archive = EXAMPLES / "ferry.txt.mem.safetensors"
    done = json_of(capsys, "decompress", archive, "--model", smollm2_path, "-o", restored)
    assert done["tokens"] == 105
    assert restored.read_bytes() == (EXAMPLES / "ferry.txt").read_bytes()


def test_explain(archive, tmp_path):
    page = tmp_path / "page.html"
    assert run(["explain", str(archive), "-o", str(page)]) == 0
    assert "until" in page.read_text()


def test_horizon(smollm2_path, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text((SENTENCE + " ") * 12)
    arguments = ("--model", smollm2_path, "--samples", 2, "--steps", 12, "--device", "cpu")
    found = json_of(capsys, "horizon", text, *arguments)
    assert [one["horizon"] for one in found["samples"]]
    assert all(one["steps"] <= 12 for one in found["samples"])


def test_a_tiny_study(smollm2_path, tmp_path, capsys):
    book = tmp_path / "book.txt"
    book.write_text((SENTENCE + " ") * 20)
    spec = tmp_path / "tiny.toml"
    spec.write_text(
        f'name = "tiny"\nmodels = ["{smollm2_path}"]\nrecipes = ["default"]\nsteps = 3\n'
        "samples = 2\nlengths = [6]\nvectors = [1]\n"
        f'[[texts]]\nname = "book"\nsource = "files"\npath = "{book}"\n'
    )
    assert run(["study", "run", str(spec), "--device", "cpu", "-q"]) == 0
    capsys.readouterr()
    status = json_of(capsys, "study", "status", tmp_path / "tiny.study")
    assert status["done"] == 2


def test_control_tokens_are_literal_text(smollm2):
    text = "<|im_start|>user\nSay <|endoftext|> twice.<|im_end|>"
    archive = memcram.compress(text, smollm2, chunk_tokens=8, steps=2)
    assert memcram.decompress(archive, smollm2) == text.encode()


@torch.no_grad()
def test_cached_logits_are_the_uncached(smollm2, passage_ids):
    embeds = smollm2.embed(passage_ids[None, :40])
    whole = smollm2.head(smollm2.hidden(embeds))
    cache, steps = None, []
    for position in range(embeds.shape[1]):
        logits, cache = smollm2.advance(embeds[:, position : position + 1], cache)
        steps.append(logits)
    difference = (torch.stack(steps, dim=1) - whole).abs().max().item()
    assert difference < 1e-3 * whole.abs().max().item()


def test_vectors_do_not_depend_on_batch_mates(smollm2, passage_ids):
    recipe = memcram.get_recipe("default@strategy.steps=3,strategy.margin=1000")
    assert isinstance(recipe.strategy, Fixed)
    requests = [CramRequest(n, passage_ids[:n], vectors=k) for n, k in ((5, 1), (20, 2), (11, 1))]
    together = {crammed.key: crammed for crammed in Engine(smollm2, recipe).run(requests)}
    for request in requests:
        [alone] = Engine(smollm2, recipe).run([request])
        difference = (alone.mem - together[request.key].mem).abs().max()
        assert difference < 1e-3 * alone.mem.abs().max()
