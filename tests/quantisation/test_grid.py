"""Codes and scales stand for values, and the nearest value has its own code."""

import math

import pytest
import torch

from memcram.errors import UsageError
from memcram.quantisation import (
    PRECISIONS,
    check_store,
    decode,
    encode,
    pack,
    precisions_of,
    row_bytes,
    scales_of,
    unpack,
)
from memcram.quantisation.grid import _GAPS

NAMES = [name for name in PRECISIONS if name != "float64"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def some_vectors():
    """Vectors of all sizes that optimisation leaves, one of them 0."""
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(5, 37, generator=draw)
    return vectors * torch.tensor([1e-20, 0.02, 1.0, 1e5, 0.0])[:, None]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("precision", NAMES)
def test_values_of_the_grid_have_their_own_codes(precision, dtype):
    vectors = some_vectors().to(dtype)
    scales = scales_of(vectors, precision)
    once = decode(encode(vectors, scales, precision), scales, precision, dtype)
    again = decode(encode(once, scales, precision), scales, precision, dtype)
    assert once.dtype == dtype
    assert once.isfinite().all()
    assert torch.equal(once, again)


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_code_is_valid_and_its_own_nearest(bits):
    codes = torch.arange(2**bits, dtype=torch.uint8)[None]
    scales = torch.tensor([0.37])
    values = decode(codes, scales, f"int{bits}", torch.float32)
    assert torch.equal(encode(values, scales, f"int{bits}"), codes)
    assert torch.equal(values, -values.flip(1))
    assert torch.allclose(values.diff(), torch.tensor(2 * 0.37))


def test_rounding_takes_the_nearest_value():
    draw = torch.Generator().manual_seed(1)
    vectors = torch.randn(4, 50, generator=draw)
    scales = scales_of(vectors, "int3")
    found = decode(encode(vectors, scales, "int3"), scales, "int3", torch.float32)
    every = decode(torch.arange(8, dtype=torch.uint8).repeat(4, 1), scales, "int3", torch.float32)
    best = (vectors[:, :, None] - every[:, None]).abs().amin(-1)
    assert torch.allclose((found - vectors).abs(), best)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_gap_has_the_smallest_error_on_normal_coordinates(bits):
    """By numerical integration, against gaps 3 % larger and smaller."""
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64)[None]
    weight = (-x.square() / 2).exp()

    def error(gap):
        scale = torch.tensor([gap / 2], dtype=torch.float64)
        near = decode(encode(x, scale, f"int{bits}"), scale, f"int{bits}", torch.float64)
        return float((weight * (near - x).square()).sum() / weight.sum())

    gap = _GAPS[bits]
    assert error(gap) < min(error(0.97 * gap), error(1.03 * gap))


def test_the_scale_takes_all_of_the_size():
    vectors = torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    for precision in ("int4", "int8", "float16"):
        codes = encode(vectors, scales_of(vectors, precision), precision)
        large = 1024 * vectors
        assert torch.equal(encode(large, scales_of(large, precision), precision), codes)


def test_float32_is_stored_unchanged():
    vectors = some_vectors()
    scales = scales_of(vectors, "float32")
    assert torch.equal(encode(vectors, scales, "float32"), vectors)


@pytest.mark.parametrize("bits", range(1, 9))
def test_unpacked_is_packed(bits):
    draw = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (5, 37), generator=draw).to(torch.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (5, row_bytes(37, bits))
    assert packed.numel() == 5 * math.ceil(37 * bits / 8)
    assert torch.equal(unpack(packed, bits, 37), codes)


def test_a_store_has_fewer_bits_than_the_model():
    assert check_store(None, "float32") is None
    assert check_store("float32", "float32") is None
    assert check_store("bfloat16", "bfloat16") is None
    assert check_store("least", "bfloat16") == "least"
    for store, dtype in [("float32", "bfloat16"), ("float16", "bfloat16"), ("int7", "float32")]:
        with pytest.raises(UsageError) as caught:
            check_store(store, dtype)
        assert caught.value.argument == "store"
        assert caught.value.allowed.startswith(dtype)


def test_least_tries_all_widths():
    assert precisions_of("int4") == ("int4",)
    assert [PRECISIONS[name] for name in precisions_of("least")] == [8, 7, 6, 5, 4, 3, 2, 1, 16, 32]
