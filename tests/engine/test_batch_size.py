"""Batch size from measured memory; the CUDA calls are replaced."""

import pytest
import torch

import memcram
from fake_cuda import fake_cuda, on_cuda
from memcram import Engine
from memcram.engine.batch_size import tokens_that_fit


@pytest.mark.parametrize(
    ("free", "per_position", "tokens"),
    [(10e9, 1e6, 7_000), (80e9, 1e5, 65_536), (1e6, 1e6, 256), (1e9, 0.0, 65_536)],
)
def test_tokens_that_fit(free, per_position, tokens):
    assert tokens_that_fit(free, per_position) == tokens


@pytest.fixture
def memory(monkeypatch):
    """A device with 4 GB free, 1 GB cached, where a pass of 128 positions takes 64 MB."""
    values = {"memory_allocated": 2e9, "memory_reserved": 3e9, "max_memory_allocated": 2.064e9}
    for name, value in values.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4e9, 8e9))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    with fake_cuda():
        yield


def test_a_cuda_device_is_measured(memory, tiny_lm):
    lm = on_cuda(tiny_lm)
    recipe = memcram.get_recipe("default")
    assert Engine(lm, recipe).batch_tokens == 7_000  # 0.7 · 5 GB / 0.5 MB
    assert Engine(lm, recipe, batch_tokens=300).batch_tokens == 300


def test_without_memory_for_the_measured_pass_the_batch_is_small(memory, tiny_lm, monkeypatch):
    lm = on_cuda(tiny_lm)

    def full(self, embeds):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(lm), "hidden", full)
    assert Engine(lm, memcram.get_recipe("default")).batch_tokens == 256


def test_a_cpu_is_not_measured(tiny_lm):
    assert Engine(tiny_lm, memcram.get_recipe("default")).batch_tokens == 1024
