"""What lies in a partial folder is believed only where it fits the job."""

import pytest
import safetensors.torch
import torch

import memcram

TEXT = "A dark night."


@pytest.mark.parametrize(
    "forged",
    [
        {"tokens": 0},
        {"tokens": 10_000},
        {"starts": -3},
        {"width": 7},
        {"dtype": torch.bfloat16},
        {"value": float("nan")},
    ],
    ids=str,
)
def test_a_forged_chunk_is_crammed_again(tmp_path, pocket, forged):
    folder = tmp_path / "text.partial"
    settings = {"chunk_tokens": 8, "steps": 2, "partial": folder}
    expected = memcram.compress(TEXT, pocket, **settings).to_bytes()
    for path in folder.glob("chunks-*"):
        path.unlink()
    mem = torch.full((1, forged.get("width", 256)), forged.get("value", 0.0))
    part = {
        "starts": torch.tensor([forged.get("starts", 0)]),
        "tokens": torch.tensor([forged.get("tokens", 3)]),
        "vectors_each": torch.tensor([1]),
        "vectors": mem.to(forged.get("dtype", torch.float32)),
    }
    safetensors.torch.save_file(part, folder / "chunks-000000000.safetensors")
    assert memcram.compress(TEXT, pocket, **settings).to_bytes() == expected
