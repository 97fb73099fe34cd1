"""Noise of the guard threshold's size in every logit, and the text still comes back."""

import pytest
import torch

import memcram
import tiny
from memcram import ArchiveError
from memcram.archive.corrections import GUARD_MARGINS

TEXT = "The lamp went out at nine, and nobody noticed until the ferry was late."


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """Logits so close to each other that many tokens need a guard."""
    config = tiny.llama_config(initializer_range=0.002)
    return memcram.load_lm(
        str(tiny.save_model(tmp_path_factory.mktemp("loose"), config)), device="cpu"
    )


def noisy(lm, monkeypatch, size, seed):
    """Every logit of decoding moves by up to `size`, up or down."""
    generator = torch.Generator().manual_seed(seed)
    advance = type(lm).advance

    def with_noise(self, embeds, cache, first=None):
        logits, cache = advance(self, embeds, cache, first)
        # Half of the places at the very edge: the worst that noise of this size can do.
        noise = 2 * torch.rand(logits.shape, generator=generator) - 1
        edge = torch.rand(logits.shape, generator=generator) < 0.5
        return logits + size * torch.where(edge, noise.sign(), noise).to(logits.dtype), cache

    monkeypatch.setattr(type(lm), "advance", with_noise)


def archives(pocket, loose):
    """An exact one, one cut short, and one full of guards."""
    return [
        (pocket, memcram.compress(TEXT, pocket)),
        (pocket, memcram.compress(TEXT, pocket, chunk_tokens=8, steps=10)),
        (loose, memcram.compress(TEXT, loose, chunk_tokens=12, steps=60)),
    ]


@pytest.fixture(scope="module")
def made(pocket, loose):
    return archives(pocket, loose)


@pytest.mark.parametrize("seed", range(5))
def test_noise_within_the_guard_margin_changes_nothing(made, monkeypatch, seed):
    assert made[1][1].summary()["tokens_corrected"] > 0
    assert made[2][1].summary()["tokens_guarded"] > 0
    for lm, archive in made:
        with monkeypatch.context() as patch:
            # Two logits move by half each, so that a margin moves by the threshold at most.
            noisy(lm, patch, 0.499 * GUARD_MARGINS[lm.dtype], seed)
            assert memcram.decompress(archive, lm) == TEXT.encode()


def test_the_margins_stored_are_beyond_the_threshold(made):
    for lm, archive in made:
        assert (archive.tensors.chunk_margins >= GUARD_MARGINS[lm.dtype]).all()


def test_without_guards_the_same_noise_does_harm(loose, monkeypatch):
    """The control: the guards, not luck, bring the text back."""
    with monkeypatch.context() as patch:
        patch.setitem(GUARD_MARGINS, loose.dtype, 0.0)
        bare = memcram.compress(TEXT, loose, chunk_tokens=12, steps=60, recipe="direct")
    assert bare.summary()["tokens_guarded"] == 0
    assert memcram.decompress(bare, loose) == TEXT.encode()
    noisy(loose, monkeypatch, 0.499 * GUARD_MARGINS[loose.dtype], 0)
    with pytest.raises(ArchiveError, match="SHA-256"):
        memcram.decompress(bare, loose)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision_too(tmp_path, monkeypatch, dtype):
    folder = tiny.save_model(tmp_path, tiny.llama_config())
    lm = memcram.load_lm(str(folder), device="cpu", dtype=dtype)
    archive = memcram.compress(TEXT, lm, chunk_tokens=6, steps=80)
    report = archive.summary()
    assert report["tokens_corrected"] < report["tokens"]
    for seed in range(3):
        with monkeypatch.context() as patch:
            # The sum is rounded to the dtype again, so a little less than half.
            noisy(lm, patch, 0.4 * GUARD_MARGINS[lm.dtype], seed)
            assert memcram.decompress(archive, lm) == TEXT.encode()
