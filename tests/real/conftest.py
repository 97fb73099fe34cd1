"""Real models, loaded once for all tests."""

import pytest
import torch

import memcram
from real import weights

PASSAGE = (
    "The mist was already thick over the river when they reached the ferry, and the old man who "
    "kept it would not take them across until he had finished his pipe. He sat on an upturned "
    "bucket with his back to the wind and talked of the flood of his grandfather's time, when the "
    "church bell had been heard ringing under the water."
)


def _loaded(path, name):
    if path is None:
        pytest.skip(f"{name} is not installed; `make test-real` installs it")
    return memcram.load_lm(str(path), device="cpu")


@pytest.fixture(scope="session")
def smollm2():
    return _loaded(weights.smollm2(), weights.SMOLLM2)


@pytest.fixture(scope="session")
def smollm2_path():
    path = weights.smollm2()
    if path is None:
        pytest.skip(f"{weights.SMOLLM2} is not installed; `make test-real` installs it")
    return path


@pytest.fixture(scope="session")
def gemma3():
    return _loaded(weights.gemma3(), weights.GEMMA3)


@pytest.fixture(scope="session")
def passage_ids(smollm2):
    return torch.tensor(smollm2.tokenize(PASSAGE))
