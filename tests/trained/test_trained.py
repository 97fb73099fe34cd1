"""Small trained models of other families: what tests on random weights would miss.

Trained weights have sharp attention, large outliers and margins of every size; `README.md` of each
says what it was trained on. Their tokenizer is that of `pocket`, taken from the package.
"""

import math
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import memcram
from memcram.archive.format import Archive
from memcram.models import decoding
from memcram.models.scoring import score

# Tokens per chunk: fewer than a vector holds on average, 6.0 and 3.5 (README.md of each).
MODELS = {"neox": 3, "mamba": 2}
# Nats per token on the first tokens of the packaged passage, as measured with these weights.
NATS = {"neox": 3.760, "mamba": 3.860}
SCORED = 120
UNIFORM = math.log(4096)
# As for the tiny models of these families (tests/conformance): Mamba's state is float32 throughout.
ROUNDING = {"neox": 1e-9, "mamba": 1e-4}
PASSAGE = files("memcram.data").joinpath("demo.txt").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    """The weights with the packaged tokenizer next to them."""
    whole = shutil.copytree(Path(__file__).parent / name, tmp_path_factory.mktemp("m") / name)
    for file in memcram.packaged_models()["pocket"].glob("tokenizer*.json"):
        shutil.copyfile(file, whole / file.name)
    return whole


@pytest.fixture(scope="module")
def lm(folder):
    return memcram.load_lm(str(folder), device="cpu")


def test_english_is_predicted_far_better_than_by_chance(name, lm):
    ids = torch.tensor(lm.tokenize(PASSAGE)[:SCORED])
    nats = score(lm, [ids])[0].nats[1:].mean().item()
    assert nats == pytest.approx(NATS[name], abs=0.01)  # float32 in another order moves it less
    assert nats < UNIFORM - 4


def test_english_is_crammed_stored_read_and_decoded_exactly(name, lm):
    ids = lm.tokenize(PASSAGE)[:6]
    text = lm.detokenize(ids)
    archive = memcram.compress(text, lm, chunk_tokens=MODELS[name], steps=300)
    read = Archive.from_bytes(archive.to_bytes())
    assert memcram.decompress(read, lm) == text.encode()
    assert list(read.chunk_tokens) == [MODELS[name]] * (6 // MODELS[name])
    assert len(read.tensors.correction_positions) == 0
    assert len(read.tensors.guard_positions) == 0
    decoded = decoding.greedy(lm, read.mems, read.chunk_tokens)
    assert torch.cat([one.ids for one in decoded]).tolist() == ids


@torch.no_grad()
def test_cached_logits_are_the_uncached(name, folder):
    lm = memcram.load_lm(str(folder), device="cpu", dtype="float64")
    ids = torch.tensor([lm.tokenize(PASSAGE)[:24]])
    mem = torch.randn(1, 1, lm.input_width, generator=torch.Generator().manual_seed(0))
    embeds = torch.cat([30 * lm.embedding_std * mem.double(), lm.embed(ids)], dim=1)
    whole = lm.head(lm.hidden(embeds))
    logits, cache = lm.advance(embeds[:, :8], None)
    found = [logits]
    for position in range(8, embeds.shape[1]):
        logits, cache = lm.advance(embeds[:, position : position + 1], cache)
        found.append(logits)
    assert (torch.stack(found, dim=1) - whole[:, 7:]).abs().max() < ROUNDING[name]
