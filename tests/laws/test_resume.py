"""Interrupted and resumed is uninterrupted."""

import pytest
import torch

import memcram
from memcram.errors import Interrupted

TEXT = "The lamp in the harbour went out at nine, and nobody noticed."


class InterruptAfter:
    """Ctrl-C once so many chunks are done."""

    def __init__(self, chunks):
        self.chunks = chunks

    def __call__(self, progress):
        if progress.chunks_done >= self.chunks:
            raise KeyboardInterrupt


@pytest.mark.parametrize("chunk_tokens", [None, 8])
def test_resumed_is_uninterrupted(pocket, tmp_path, chunk_tokens):
    settings = {"chunk_tokens": chunk_tokens, "steps": 40, "seed": 1}
    whole = memcram.compress(TEXT, pocket, **settings)
    folder = tmp_path / "a.partial"
    for chunks in (1, 2):
        with pytest.raises(Interrupted, match="are kept"):
            memcram.compress(
                TEXT, pocket, partial=folder, on_progress=InterruptAfter(chunks), **settings
            )
        assert folder.is_dir()
    seen = []
    resumed = memcram.compress(TEXT, pocket, partial=folder, on_progress=seen.append, **settings)
    assert all(state.chunks_done >= 1 for state in seen)  # nothing is done again
    for name, tensor in whole.tensors.named().items():
        assert torch.equal(tensor, resumed.tensors.named()[name]), name
    assert memcram.decompress(resumed, pocket) == TEXT.encode()


def test_a_damaged_part_is_crammed_again(pocket, tmp_path):
    settings = {"chunk_tokens": 8, "steps": 10}
    folder = tmp_path / "a.partial"
    with pytest.raises(Interrupted):
        memcram.compress(TEXT, pocket, partial=folder, on_progress=InterruptAfter(1), **settings)
    parts = sorted(folder.glob("*.safetensors"))
    assert parts
    for path in parts:
        path.write_bytes(path.read_bytes()[:-3])
    resumed = memcram.compress(TEXT, pocket, partial=folder, **settings)
    whole = memcram.compress(TEXT, pocket, **settings)
    assert torch.equal(resumed.tensors.vectors, whole.tensors.vectors)


def test_another_run_is_not_mixed_in(pocket, tmp_path):
    folder = tmp_path / "a.partial"
    settings = {"chunk_tokens": 8, "steps": 10}
    with pytest.raises(Interrupted):
        memcram.compress(TEXT, pocket, partial=folder, on_progress=InterruptAfter(1), **settings)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(memcram.UsageError, match=r"other settings \(plan\).*--force"):
        memcram.compress(TEXT, pocket, partial=folder, seed=1, **settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    forced = memcram.compress(TEXT, pocket, partial=folder, seed=1, force=True, **settings)
    assert memcram.decompress(forced, pocket) == TEXT.encode()
