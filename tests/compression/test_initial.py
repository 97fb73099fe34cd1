"""Start cramming from the vectors of an earlier archive."""

import dataclasses

import pytest
import torch

import memcram
from memcram import Engine, UsageError, load_lm
from memcram.archive import Archive
from memcram.cli import run

TEXT = "The lamp in the harbour went out at nine, and nobody noticed."
SMALL = {"chunk_tokens": 4, "steps": 60}


@pytest.fixture(scope="module")
def draft(pocket):
    return memcram.compress(TEXT, pocket, **SMALL)


@pytest.fixture
def requests(monkeypatch):
    """Requests of every engine, in the order in which they are made."""
    seen = []
    new_slot = Engine._new_slot

    def spied(engine, request):
        seen.append(request)
        return new_slot(engine, request)

    monkeypatch.setattr(Engine, "_new_slot", spied)
    return seen


def test_exact_archive_needs_no_step(pocket, draft):
    """The vectors are measured as they are, and found good enough."""
    crammed = memcram.cram(TEXT[:16], pocket)
    archive = memcram.compress(TEXT[:16], pocket, chunk_tokens=len(crammed.margins))
    again = memcram.cram(TEXT[:16], pocket, init=archive)
    assert (str(again.outcome), again.steps) == ("right", 0)
    torch.testing.assert_close(again.mem, archive.mems[0], rtol=1e-5, atol=1e-5)


def test_with_the_same_cuts_chunk_i_starts_from_chunk_i(pocket, draft, requests):
    memcram.compress(TEXT, pocket, **SMALL, init=draft)
    firsts = [one for one in requests if not one.key.attempt]
    assert len(firsts) == len(draft.mems) > 2
    for request, mem in zip(firsts, draft.mems, strict=True):
        assert torch.equal(request.init, mem)
    assert all(one.init is None for one in requests if one.key.attempt)


def test_other_cuts_start_from_the_chunk_with_the_same_token(pocket, draft, requests):
    longer = TEXT + " Marta counted the boats twice."
    memcram.compress(longer, pocket, chunk_tokens=6, steps=1, init=draft)
    end = draft.manifest.text.tokens
    held = [i for i, n in enumerate(draft.chunk_tokens) for _ in range(n)]
    firsts = [one for one in requests if not one.key.attempt]
    assert any(one.key.start >= end for one in firsts)
    for request in firsts:
        start = request.key.start
        expected = None if start >= end else draft.mems[held[start]]
        assert (request.init is None) == (expected is None)
        assert expected is None or torch.equal(request.init, expected)


@pytest.mark.parametrize("vectors", [0, -1])
def test_number_of_vectors_is_checked_first(pocket, draft, vectors):
    with pytest.raises(UsageError, match=f"^vectors: got {vectors}, allowed: 1 or more"):
        memcram.cram(TEXT, pocket, vectors=vectors, init=draft)


def test_checksum_of_the_archive_is_recorded(pocket, draft):
    archive = memcram.compress(TEXT, pocket, chunk_tokens=4, steps=1, init=draft)
    assert archive.manifest.recipe["init"] == draft.manifest.tensors_sha256
    assert "init" not in draft.manifest.recipe
    assert memcram.decompress(archive, pocket) == TEXT.encode()


def test_first_k_vectors_are_taken(pocket, requests):
    pairs = memcram.compress(TEXT, pocket, vectors=2, **SMALL)
    memcram.cram(TEXT[:12], pocket, steps=1, init=pairs)
    assert torch.equal(requests[-1].init, pairs.mems[0][:1])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"vectors": 2}, "init: got an archive with 1 vectors per chunk, allowed: 2 or more"),
        ({"recipe": "direction"}, "init: 'direction' cannot start from these 1 vectors"),
    ],
)
def test_refuses_what_does_not_fit(pocket, draft, settings, problem, tmp_path):
    for crams in (memcram.cram, memcram.compress):
        with pytest.raises(UsageError) as caught:
            crams(TEXT, pocket, init=draft, **settings)
        assert str(caught.value).startswith(problem)


def test_refuses_another_model(tiny_lm, draft):
    with pytest.raises(UsageError, match=r"^init: made with pocket \(width 256, .*has width 32"):
        memcram.cram("A lamp", tiny_lm, init=draft)
    # A forged width, or a fingerprint of another model with the right width.
    made = dataclasses.replace
    forged = draft.manifest.model.model_copy(update={"input_width": tiny_lm.input_width})
    other = made(draft, manifest=draft.manifest.model_copy(update={"model": forged}))
    with pytest.raises(UsageError, match="fingerprint"):
        memcram.cram("A lamp", tiny_lm, init=other)


def test_layout_and_dtype_may_differ(draft):
    lm = load_lm("pocket", device="cpu", dtype="bfloat16", layout="mem+bos")
    crammed = memcram.cram(TEXT[:12], lm, steps=1, recipe="direct", init=draft)
    assert crammed.mem.dtype == torch.bfloat16


def test_resumed_only_with_the_same_vectors(pocket, draft, tmp_path):
    partial = tmp_path / "a.partial"

    def stop(progress):
        if progress.chunks_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memcram.compress(TEXT, pocket, **SMALL, init=draft, partial=partial, on_progress=stop)
    with pytest.raises(UsageError, match="other settings"):
        memcram.compress(TEXT, pocket, **SMALL, partial=partial)
    resumed = memcram.compress(TEXT, pocket, **SMALL, init=draft, partial=partial)
    whole = memcram.compress(TEXT, pocket, **SMALL, init=draft)
    assert resumed.to_bytes() == whole.to_bytes()


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch, draft):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scene.txt").write_text(TEXT)
    draft.write("draft.mem.safetensors")
    return tmp_path


COMMAND = ["compress", "scene.txt", "--device", "cpu", "--chunk-tokens", "4", "--steps", "2", "-q"]


def test_command(place, draft):
    assert run([*COMMAND, "--init", "draft.mem.safetensors"]) == 0
    made = Archive.read("scene.txt.mem.safetensors")
    assert made.manifest.recipe["init"] == draft.manifest.tensors_sha256


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (["--init", "none"], 2, "memcram: --init: 'none' does not exist"),
        (["--init", "scene.txt"], 3, "memcram: scene.txt: not a memcram archive"),
        (["--init", "draft.mem.safetensors", "-K", "3"], 2, "memcram: --init: got an archive"),
    ],
)
def test_errors_of_the_command(place, capsys, words, code, problem):
    before = sorted(place.iterdir())
    assert run([*COMMAND, *words]) == code
    err = capsys.readouterr().err
    assert err.startswith(problem)
    assert err.count("\n") == 1
    assert sorted(place.iterdir()) == before


def test_standard_input_is_only_one_of_the_two(place, capsys):
    assert run(["compress", "-", "-o", "a.mem.safetensors", "--init", "-"]) == 2
    assert "--init: standard input is TEXT already" in capsys.readouterr().err
