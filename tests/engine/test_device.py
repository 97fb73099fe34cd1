"""Whole runs on a fake CUDA device: the values of the CPU, and no wait between polls."""

import contextlib
import dataclasses

import pytest
import torch

import memcram
from fake_cuda import CUDA, DeviceMismatchError, fake_cuda, on_cuda
from memcram import CramRequest, Engine
from memcram.models import decoding
from memcram.recipes.strategies import Outcome
from memcram.recipes.strategies.fixed import Fixed

WAITING = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "copy to the host": lambda x: torch.zeros(3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "assignment by mask": lambda x: x.__setitem__(x > 0, 0.0),
    "upload": lambda x: torch.ones(3).to(CUDA),
    "upload without pinning": lambda x: torch.ones(3).to(CUDA, non_blocking=True),
    "upload of numbers": lambda x: torch.tensor([1.0, 2.0], device=CUDA),
    "upload into": lambda x: x.copy_(torch.ones(3)),
    "index on the host": lambda x: x[torch.tensor([0, 1])],
    "list as an index": lambda x: x[[0, 1]],
    "assignment by list": lambda x: x.__setitem__([0, 1], 0.0),
}
SILENT = {
    "arithmetic": lambda x: (x * 2 + torch.tensor(1.0)).sum(),
    "new": lambda x: torch.arange(3, device=CUDA) + torch.zeros_like(x),
    "index": lambda x: x[torch.arange(2, device=CUDA)],
    "view": lambda x: x[1:].zero_(),
    "assignment": lambda x: x.__setitem__(1, 5.0),
    "pinned upload": lambda x: torch.ones(3).pin_memory().to(CUDA, non_blocking=True),
}
MIXED = {
    "sum": lambda x: x + torch.ones(3),
    "assignment": lambda x: x.__setitem__(torch.arange(2, device=CUDA), torch.ones(2)),
    "index": lambda x: torch.ones(3)[torch.arange(2, device=CUDA)],
    "cat": lambda x: torch.cat([x, torch.ones(3)]),
}


@pytest.fixture
def device():
    with fake_cuda() as device:
        yield device


@pytest.fixture(scope="module")
def one_layer(tiny_folder):
    return memcram.load_lm(str(tiny_folder), device="cpu", dtype="float64", layers=1)


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_noted(device, name):
    WAITING[name](torch.ones(3, device=CUDA))
    assert len(device.waits) == 1


@pytest.mark.parametrize("name", SILENT)
def test_what_does_not_wait_is_not_noted(device, name):
    SILENT[name](torch.ones(3, device=CUDA))
    assert device.waits == []


@pytest.mark.parametrize("name", MIXED)
def test_two_devices_in_one_operation_are_refused(device, name):
    with pytest.raises(DeviceMismatchError):
        MIXED[name](torch.ones(3, device=CUDA))


def test_views_and_gradients_have_the_values_of_the_cpu(device):
    x = torch.arange(6.0).to(CUDA).view(2, 3)
    x[1].mul_(10)
    x.requires_grad_()
    x[:, 1].square().sum().backward()
    assert x.tolist() == [[0, 1, 2], [30, 40, 50]]
    assert x.grad.tolist() == [[0, 2, 0], [0, 80, 0]]


# -- the engine -----------------------------------------------------------------------------------


def recipe(name, **changes):
    return dataclasses.replace(memcram.get_recipe(name), **changes)


RECIPES = {
    "fixed": recipe("default", strategy=Fixed(steps=6, margin=0.02)),
    "horizon": memcram.get_recipe("default@lr=1").with_steps(13).for_horizon(),
    "cross-entropy": recipe("kuratov2025", strategy=Fixed(steps=6, margin=0.02)),
    "shared": memcram.get_recipe("tarasov2026+low-dim@lr=0.5,warmup=1,in_group=true").with_steps(9),
}


def requests(recipe, shapes=((9, 1), (14, 2), (6, 1))):
    """Texts of one repeated token, which even random weights soon predict."""
    group = 7 if recipe.parametrisation.shared else None
    return [
        CramRequest(n, torch.full((n,), 7), vectors, seed=n, group=group) for n, vectors in shapes
    ]


@contextlib.contextmanager
def watched_turns(device, monkeypatch):
    """Yield a list of (is poll, what the host waited for) per turn of any engine."""
    turn, turns = Engine._turn, []

    def watched(self, batch, *, poll):
        before = len(device.waits)
        decisions = turn(self, batch, poll=poll)
        turns.append((poll, device.waits[before:]))
        return decisions

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_turn", watched)
        yield turns


def check_waits(turns):
    """Check that the host waited once per poll, and never in between."""
    for poll, waits in turns:
        assert waits == (["copy to the host"] if poll else []), (poll, waits)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_has_the_values_of_the_cpu_and_waits_at_polls_only(
    one_layer, device, monkeypatch, name
):
    chosen = RECIPES[name]
    wanted = requests(chosen)
    options = {"poll_every": 1 if chosen.strategy.every_step else 3, "batch_tokens": 32}
    expected = {one.key: one for one in Engine(one_layer, chosen, **options).run(wanted)}
    lm = on_cuda(one_layer)
    assert (lm.device, lm.prefix.device) == (CUDA, CUDA)
    with watched_turns(device, monkeypatch) as turns:
        found = list(Engine(lm, chosen, **options).run(wanted, on_poll=lambda status: None))
    check_waits(turns)
    assert len(turns) > 6
    assert name != "horizon" or any(one.n_correct for one in found)
    assert {one.key for one in found} == set(expected)
    for one in found:
        assert one.mem.device.type == "cpu"
        torch.testing.assert_close(one.mem, expected[one.key].mem, rtol=0, atol=1e-9)
        assert one.outcome == expected[one.key].outcome
        assert one.steps == expected[one.key].steps


def test_finishing_bfloat16_waits_at_polls_only(one_layer, device, monkeypatch):
    chosen = RECIPES["horizon"]
    with watched_turns(device, monkeypatch) as turns:
        engine = Engine(
            on_cuda(one_layer), chosen, batch_tokens=64, poll_every=3, compute_dtype="bfloat16"
        )
        [one] = engine.run(requests(chosen, [(9, 1)]))
    check_waits(turns)
    assert one.n_correct
    assert one.mem.dtype == torch.float64
    assert len(turns) == one.steps + 2  # each phase measures once more than it steps


def test_a_path_and_an_interruption_need_no_more_waits(one_layer, device, monkeypatch):
    chosen = RECIPES["fixed"]
    [request] = requests(chosen, [(14, 1)])
    results = []

    def interrupt(status):
        if status.steps > 3:
            raise KeyboardInterrupt

    def consume(engine):
        for one in engine.run([dataclasses.replace(request, with_path=True)], interrupt):
            results.append(one)

    with watched_turns(device, monkeypatch) as turns, pytest.raises(KeyboardInterrupt):
        consume(Engine(on_cuda(one_layer), chosen, batch_tokens=64, poll_every=3))
    check_waits(turns)
    [one] = results
    assert one.outcome is Outcome.INTERRUPTED
    assert one.path.device.type == "cpu"


@pytest.mark.parametrize("method", ["_score", "_step"])
def test_a_wait_inside_a_turn_is_found(one_layer, device, monkeypatch, method):
    original = getattr(Engine, method)

    def faulty(self, batch, *rest):
        batch.rows.step.sum().item()
        return original(self, batch, *rest)

    monkeypatch.setattr(Engine, method, faulty)
    chosen = RECIPES["fixed"]
    with watched_turns(device, monkeypatch) as turns:
        list(
            Engine(on_cuda(one_layer), chosen, batch_tokens=64, poll_every=3).run(
                requests(chosen, [(6, 1)])
            )
        )
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        check_waits(turns)


def test_decoding_waits_as_often_for_a_long_text(one_layer, device):
    lm = on_cuda(one_layer)
    mems = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0))
    waits = []
    for n in (2, 5):
        before = len(device.waits)
        decoded = decoding.greedy(lm, list(mems), [n, n])
        waits.append(len(device.waits) - before)
        expected = decoding.greedy(one_layer, list(mems), [n, n])
        assert torch.equal(decoded[1].ids, expected[1].ids)
    assert waits[0] == waits[1]
