"""Checks of `gpu.py`: what an archive promises holds on this device."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import memcram
from gpu_site import Site, prose, require
from memcram.engine.batch_size import usual_batch_tokens
from memcram.engine.compute import ComputeDtype
from memcram.engine.loop import Engine
from memcram.models import FrozenLM, decoding
from memcram.models.modes import DtypeName
from memcram.models.scoring import score
from memcram.recipes.strategies.fixed import Fixed

# Logits of `pocket` in float32 differ by some 1e-5 between computations that should agree.
_LOGIT_TOLERANCE = 1e-2
_PASSAGE = "The lamp in the harbour went out at nine, and nobody noticed until the ferry was late. "


def tf32_is_off(site: Site) -> dict[str, Any]:
    """float32 matrix products have the precision of float32."""
    lm = site.pocket()  # loading turns TF32 off
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 512, 512, generator=generator).to(lm.device)
    exact = a.double() @ b.double()
    error = float(((a @ b).double() - exact).abs().max() / exact.abs().max())
    require(error < 1e-5, f"relative error of a float32 product: {error:.1e}, allowed: 1e-05")
    return {"relative_error": error}


def round_trip(site: Site, dtype: DtypeName, compute_dtype: ComputeDtype) -> dict[str, Any]:
    """A compressed text is decompressed on the device; in float32 on the CPU too."""
    lm = site.pocket(dtype)
    text = _PASSAGE if site.quick else 8 * _PASSAGE
    archive = memcram.compress(text, lm, compute_dtype=compute_dtype, steps=200)
    require(memcram.decompress(archive, lm) == text.encode(), "the device decodes another text")
    if dtype == "float32":
        restored = memcram.decompress(archive, site.pocket_on_cpu())
        require(restored == text.encode(), "the CPU decodes another text")
    return {
        "chunks": len(archive.chunk_tokens),
        "tokens": sum(archive.chunk_tokens),
        "corrections": len(archive.tensors.correction_positions),
    }


def _crammed(site: Site, lm: FrozenLM) -> tuple[list[Tensor], list[Tensor]]:
    """Texts, and their vectors."""
    texts = prose(lm, 4, 12)
    requests = [memcram.CramRequest(i, ids, seed=i) for i, ids in enumerate(texts)]
    recipe = memcram.get_recipe("default").with_steps(20 if site.quick else 200)
    engine = Engine(lm, recipe, compute_dtype=lm.dtype)
    found = {one.key: one.mem for one in engine.run(requests)}
    return texts, [found[i] for i in range(len(texts))]


def margins_of_the_cpu(site: Site) -> dict[str, Any]:
    """Margins under teacher forcing are those of the CPU."""
    texts, mems = _crammed(site, site.pocket())
    here = score(site.pocket(), texts, mems)
    there = score(site.pocket_on_cpu(), texts, mems)
    pairs = zip(here, there, strict=True)
    difference = max(float((a.margins - b.margins).abs().max()) for a, b in pairs)
    require(difference < _LOGIT_TOLERANCE, f"margins differ by {difference:.1e}")
    return {"largest_difference": difference}


def cached_equals_uncached(site: Site) -> dict[str, Any]:
    """Decoding with a cache has the margins of one pass over the decoded tokens."""
    lm = site.pocket()
    texts, mems = _crammed(site, lm)
    decoded = decoding.greedy(lm, mems, [len(ids) for ids in texts])
    scored = score(lm, [one.ids for one in decoded], mems)
    pairs = zip(decoded, scored, strict=True)
    difference = max(float((a.margins - b.margins).abs().max()) for a, b in pairs)
    require(difference < _LOGIT_TOLERANCE, f"margins differ by {difference:.1e}")
    return {"largest_difference": difference}


def batch_mates_change_nothing(site: Site) -> dict[str, Any]:
    """In float64 a text has the same vectors alone and in a batch; in float32 nearly."""
    shapes = [(9, 1), (40, 2), (23, 1)]
    differences: dict[str, float] = {}
    dtypes: tuple[DtypeName, ...] = ("float64", "float32")
    for dtype in dtypes:
        lm = site.pocket(dtype)
        [ids] = prose(lm, 1, 100)
        requests = [memcram.CramRequest(n, ids[n : 2 * n], k, n) for n, k in shapes]
        recipe = memcram.get_recipe("default").with_steps(3 if site.quick else 30)
        run = Engine(lm, recipe, compute_dtype=lm.dtype).run
        together = {one.key: one.mem for one in run(requests)}
        alone = [next(iter(run([request]))) for request in requests]
        differences[dtype] = max(float((one.mem - together[one.key]).abs().max()) for one in alone)
    largest = differences["float64"]
    require(largest < 1e-9, f"vectors in float64 differ by {largest:.1e}, allowed: 1e-09")
    return {"largest_difference": differences}


def turns_wait_at_polls_only(site: Site) -> dict[str, Any]:
    """Between polls, no operation of a turn makes the host wait for the device."""
    if not site.on_cuda:
        return {"skipped": "needs CUDA"}
    turn, silent = Engine._turn, 0

    def watched(self: Engine, batch: Any, *, poll: bool) -> Any:
        nonlocal silent
        silent += not poll
        with contextlib.nullcontext() if poll else _waiting_is_an_error():
            return turn(self, batch, poll=poll)

    Engine._turn = watched  # type: ignore[method-assign]
    try:
        lm = site.pocket()
        requests = [memcram.CramRequest(i, ids) for i, ids in enumerate(prose(lm, 3, 20))]
        for name in ("default", "kuratov2025"):
            recipe = memcram.get_recipe(name).with_steps(20)
            for dtype in (torch.float32, torch.bfloat16):
                list(Engine(lm, recipe, poll_every=8, compute_dtype=dtype).run(requests))
    finally:
        Engine._turn = turn  # type: ignore[method-assign]
    require(silent > 0, "no turn without a poll was taken")
    return {"turns_between_polls": silent}


@contextlib.contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def a_full_batch_fits(site: Site) -> dict[str, Any]:
    """As many texts as the measured batch size allows fit in memory."""
    lm = site.pocket()
    tokens = usual_batch_tokens(lm) if site.on_cuda else 256
    recipe = replace(memcram.get_recipe("default"), strategy=Fixed(steps=2, margin=1e30))
    engine = Engine(lm, recipe, batch_tokens=tokens, compute_dtype=lm.dtype)
    rows = prose(lm, max(1, tokens // 128), 128)
    list(engine.run([memcram.CramRequest(i, ids) for i, ids in enumerate(rows)]))
    require(engine.batch_tokens == tokens, f"of {tokens} positions {engine.batch_tokens} fit")
    return {"batch_tokens": tokens, "texts": len(rows)}


CHECKS: dict[str, Callable[[Site], dict[str, Any]]] = {
    "TF32 is off": tf32_is_off,
    "round trip in float32": partial(round_trip, dtype="float32", compute_dtype="float32"),
    "round trip in float32, optimised in bfloat16": partial(
        round_trip, dtype="float32", compute_dtype="bfloat16"
    ),
    "round trip in bfloat16": partial(round_trip, dtype="bfloat16", compute_dtype="bfloat16"),
    "margins of the CPU": margins_of_the_cpu,
    "cached equals uncached": cached_equals_uncached,
    "batch-mates change nothing": batch_mates_change_nothing,
    "turns wait at polls only": turns_wait_at_polls_only,
    "a full batch fits": a_full_batch_fits,
}
