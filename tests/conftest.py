"""Models that many tests share: loading them takes longer than most tests."""

import sys
from pathlib import Path

import pytest
import torch

import memcram

sys.path.insert(0, str(Path(__file__).parent))

import tiny


@pytest.fixture(scope="session")
def pocket():
    return memcram.load_lm("pocket", device="cpu")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A Llama of two layers with a byte tokenizer."""
    return tiny.save_model(tmp_path_factory.mktemp("llama"), tiny.llama_config())


@pytest.fixture(scope="session")
def tiny_lm(tiny_folder):
    return memcram.load_lm(str(tiny_folder), device="cpu")


@pytest.fixture(scope="session")
def tiny_lm64(tiny_folder):
    return memcram.load_lm(str(tiny_folder), device="cpu", dtype="float64")


@pytest.fixture(scope="session")
def prose(pocket):
    """Token ids of ordinary English, more than any test needs."""
    sentences = (
        "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "
        "Marta counted the boats twice; there were eleven, and the twelfth was her brother's. "
        "She put the kettle on, took it off again, and walked down to the end of the pier. "
        "Rain had filled the old rope baskets, so that each held a small round piece of sky. "
    )
    return torch.tensor(pocket.tokenize(sentences * 3))
