"""What is on trial in the arena: it runs, keeps texts apart, and is what its formula says."""

import math
from dataclasses import replace

import pytest
import torch

from arena.trials_losses import (
    AnnealedMargin,
    CrossEntropyThenMargin,
    FirstWrong,
    FocalCrossEntropy,
    TruncatedCrossEntropy,
    WorstTokens,
)
from arena.trials_updates import CyclicAdam, EigenAdam, LimitedLBFGS, NoisyAdam, TensorAdam
from arena.trials_vectors import (
    FixedLength,
    MapAtStart,
    MapRates,
    MeanEmbedding,
    OwnEmbeddings,
    RowRates,
    ScaleDirection,
    TwoLayerMap,
    with_starts,
)
from arena.variants import TRIALS, parse_entry
from memcram import CramRequest, Engine
from memcram.engine.batch import Batch
from memcram.errors import UsageError
from memcram.models.accounting import margins
from memcram.recipes.catalogue import get_recipe
from memcram.recipes.objectives import SmoothMargin
from memcram.recipes.optimisers import AdamW
from memcram.recipes.parametrisations import LowDim
from memcram.recipes.strategies import Fixed, Horizon

LINES = [
    "default@objective=TruncatedCrossEntropy",
    "default@objective=FocalCrossEntropy",
    "default@objective=FirstWrong",
    "default@objective=WorstTokens",
    "default@objective=AnnealedMargin,objective.steps=4",
    "default@objective=AnnealedMargin,objective.steps=4,since_growth=true",
    "default@objective=CrossEntropyThenMargin,objective.steps=4",
    "direct@optimiser=EigenAdam,lr=0.3,every=2",
    "default@optimiser=EigenAdam,lr=0.3,every=2",
    "default@optimiser=TensorAdam,lr=0.3",
    "direct@optimiser=TensorAdam",
    "default@optimiser=CyclicAdam,lr=0.3,period=3",
    "default@optimiser=NoisyAdam,lr=0.3",
    "direct@optimiser=NoisyAdam",
    "direct@optimiser=LimitedLBFGS,lr=0.3",
    "default@optimiser=LimitedLBFGS,lr=0.3,after=2,adam_lr=0.3",
    "direct@parametrisation=ScaleDirection,lr=0.1",
    "direct@parametrisation=FixedLength,size=0.5",
    "direct@parametrisation=RowRates,ratio=0.5",
    "default@parametrisation=MapRates,z=3.0",
    "default@parametrisation=TwoLayerMap",
    "default@parametrisation=MapAtStart,start=MeanEmbedding,noise=0.1",
    "default@parametrisation=MapAtStart,start=OwnEmbeddings",
    "direct@start=OwnEmbeddings,start.tokens=1",
]
# (tokens, K)
MATES = [(5, 1), (12, 2), (30, 1)]


# -- conformance --------------------------------------------------------------------------------


def test_every_trial_has_a_line():
    named = {word for line in LINES for word in line.replace(",", "=").split("=")}
    assert {kind.__name__ for kinds in TRIALS.values() for kind in kinds} <= named


@pytest.mark.parametrize("line", LINES)
def test_a_trial_takes_steps_and_batch_mates_change_nothing(pocket, prose, line):
    recipe = replace(parse_entry(line).recipe, strategy=Fixed(steps=4))
    wanted = [
        CramRequest((n, k), prose[10 * i :][:n], k, seed=i, with_path=True)
        for i, (n, k) in enumerate(MATES)
    ]
    wanted = with_starts(pocket, recipe, wanted)
    together = {one.key: one for one in Engine(pocket, recipe).run(wanted)}
    for request in wanted[:2]:
        [alone] = Engine(pocket, recipe).run([request])
        mixed = together[request.key]
        # The kept vectors come last; the others are those of each step.
        assert set(alone.path_steps.tolist()) == set(range(5))
        assert alone.path.isfinite().all()
        moves = alone.path[:-1].diff(dim=0).flatten(1).norm(dim=1)
        assert (moves > 0).all()
        assert torch.equal(alone.path_steps, mixed.path_steps)
        assert torch.equal(alone.path, mixed.path), request.key
        assert torch.equal(alone.margins, mixed.margins)


@pytest.mark.parametrize(
    "line",
    [line for line in LINES if "optimiser=" in line] + ["default", "direct@objective=WorstTokens"],
)
def test_a_back_off_begins_anew_whoever_is_beside(pocket, prose, line):
    backs_off = Horizon(steps=8, patience=2, first=10, lookahead=2)
    recipe = replace(parse_entry(line).recipe, strategy=backs_off)
    wanted = [CramRequest((n, k), prose[:n], k, seed=n, with_path=True) for n, k in MATES]
    together = {one.key: one for one in Engine(pocket, recipe).run(wanted)}
    for request in wanted[:2]:
        [alone] = Engine(pocket, recipe).run([request])
        assert torch.equal(alone.path, together[request.key].path), request.key
        assert alone.path.isfinite().all()


def test_noise_is_another_after_each_back_off(pocket, prose, monkeypatch):
    seeds = []
    step = NoisyAdam.step

    def noted(self, rows, gradient, state, clocks):
        seeds.append((state["seed"].tolist(), clocks[0]))
        step(self, rows, gradient, state, clocks)

    monkeypatch.setattr(NoisyAdam, "step", noted)
    line = "direct@optimiser=NoisyAdam,optimiser.lr=0.01,sigma=0.1"
    backs_off = Horizon(steps=9, patience=2, first=10, lookahead=0)
    recipe = replace(parse_entry(line).recipe, strategy=backs_off)
    list(Engine(pocket, recipe).run([CramRequest("a", prose[:20], 1)]))
    begun = [seed for seed, clock in seeds if clock == 1]
    assert len(begun) > 1
    assert [0] not in begun


def test_the_package_knows_no_trial():
    with pytest.raises(UsageError, match="CrossEntropy, HingeMargin, SmoothMargin"):
        get_recipe("default@objective=WorstTokens")
    with pytest.raises(UsageError, match="WorstTokens"):
        parse_entry("default@objective=Nonsense")


# -- losses -------------------------------------------------------------------------------------


def two_classes(*found):
    """Logits (token, 2) whose margins are these, and targets."""
    logits = torch.tensor([[margin, 0.0] for margin in found], dtype=torch.float64)
    return logits, torch.zeros(len(found), dtype=torch.long)


def losses(objective, *found):
    return objective(*two_classes(*found)).loss.tolist()


def softplus(x):
    return math.log1p(math.exp(x))


def test_cross_entropy_stops_at_the_threshold():
    # With two classes −log p is log(1 + exp(−margin)).
    found = losses(TruncatedCrossEntropy(tau=0.5), 2.0, -1.0, 0.5, 0.25)
    assert found == pytest.approx([0.0, softplus(1.0), 0.0, softplus(-0.25)])


def test_focal_cross_entropy_by_hand():
    # p = 1/2 and 3/4.
    found = losses(FocalCrossEntropy(gamma=2.0), 0.0, math.log(3))
    assert found == pytest.approx([math.log(2) / 4, math.log(4 / 3) / 16])


def texts(steps=(0, 0), held_at=(0, 0)):
    """A text of three tokens with a fourth looked ahead at, and one of a single token."""
    batch = Batch()
    batch.cells = torch.tensor([[0, 0, 0, 0, 1], [0, 1, 2, 3, 0]])
    batch.in_loss = torch.tensor([[True, True, True, False], [True, False, False, False]])
    batch.is_measured = torch.tensor([[True] * 4, [True, False, False, False]])
    batch.rows = {
        "step": torch.tensor(steps, dtype=torch.float64),
        "most_held_step": torch.tensor(held_at, dtype=torch.float64),
    }
    return batch


# Of the two texts, with three rows of padding behind.
FOUND = (2.0, -1.0, -3.0, -9.0, 0.01, 2.0, 2.0, 2.0)


def test_the_first_wrong_token_weighs_more():
    objective = FirstWrong(tau=1.0, extra=3.0, above=0.02)
    found = losses(objective.of_texts(texts()), *FOUND)[:5]
    plain = [softplus(-margin) for margin in FOUND]
    assert found == pytest.approx([plain[0], 4 * plain[1], plain[2], plain[3], 4 * plain[4]])


def test_worst_tokens_have_the_gradient_of_log_sum_exp():
    logits, targets = two_classes(*FOUND)
    logits.requires_grad_()
    objective = WorstTokens(tau=1.0, heat=0.5)
    loss = objective.of_texts(texts())(logits, targets).loss
    weights = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0, 1, 0, 0, 0], dtype=torch.float64)
    [ours] = torch.autograd.grad((weights * loss).sum(), logits)
    plain = SmoothMargin(1.0)(logits, targets).loss
    theirs = 0.5 * (plain[:3] / 0.5).logsumexp(0) + plain[4]
    [expected] = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours, expected)
    assert loss.isfinite().all()
    # A text of one token has its plain loss.
    assert loss[4].item() == pytest.approx(softplus(-0.01))


@pytest.mark.parametrize(
    ("since_growth", "taus"),
    [(False, [0.1, 0.01]), (True, [0.1, 1.0])],  # of shares 2/4 and 9/4; of 2/4 and 0/4
)
def test_the_temperature_of_each_text_follows_its_own_steps(since_growth, taus):
    objective = AnnealedMargin(first=1.0, last=0.01, steps=4, since_growth=since_growth)
    at = texts(steps=(2, 9), held_at=(0, 9))
    found = losses(objective.of_texts(at), *FOUND)[:5]
    own = [taus[0]] * 4 + [taus[1]]
    assert found == pytest.approx([t * softplus(-m / t) for t, m in zip(own, FOUND, strict=False)])


def test_cross_entropy_goes_over_into_the_margin():
    objective = CrossEntropyThenMargin(tau=0.1, steps=4)
    found = losses(objective.of_texts(texts(steps=(1, 9))), *FOUND)[:5]
    before, after = ([t * softplus(-m / t) for m in FOUND[:5]] for t in (1.0, 0.1))
    share = [0.25] * 4 + [1.0]
    assert found == pytest.approx(
        [(1 - s) * b + s * a for s, b, a in zip(share, before, after, strict=True)]
    )


def test_margins_are_measured_as_ever():
    logits, targets = two_classes(*FOUND)
    for kind in (FirstWrong, WorstTokens, AnnealedMargin, CrossEntropyThenMargin):
        scores = kind().of_texts(texts())(logits, targets)
        assert torch.equal(scores.margin, margins(logits, targets))


# -- optimisers ---------------------------------------------------------------------------------


def one_step(optimiser, rows, gradient):
    """Rows after the first step, each slot by itself in its state."""
    state = {}
    for row in rows:
        for key, value in optimiser.init(row).items():
            state.setdefault(key, []).append(value)
    state = {key: torch.stack(values) for key, values in state.items()}
    rows = rows.clone()
    optimiser.step(rows, gradient, state, [1] * len(rows))
    return rows


def test_one_second_moment_for_all_of_a_tensor():
    gradient = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]], dtype=torch.float64)
    rows = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]], dtype=torch.float64)  # the second is padding
    found = one_step(TensorAdam(lr=0.5), rows, gradient)
    # mean(g²) is 12.5 over the two coordinates that are there
    expected = rows - 0.5 * gradient / 12.5**0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_in_the_eigenbasis_the_first_step_goes_along_the_gradient():
    gradient = torch.tensor([[[3.0, 4.0]]], dtype=torch.float64)
    found = one_step(EigenAdam(lr=0.5, floor=0.0), torch.zeros_like(gradient), gradient)
    torch.testing.assert_close(found, -0.5 * gradient / 5, rtol=0, atol=1e-7)
    # Adam itself goes along the signs.
    found = one_step(AdamW(lr=0.5), torch.zeros_like(gradient), gradient)
    torch.testing.assert_close(found, torch.full_like(found, -0.5), rtol=0, atol=1e-7)


def test_the_rate_falls_again_and_again():
    cyclic = CyclicAdam(lr=1.0, final_lr=0.2, period=4)
    rates = [cyclic.rate(t) for t in (1, 3, 5, 7)]
    assert rates == pytest.approx([1.0, 0.6, 1.0, 0.6])


def test_noise_is_that_of_the_slot_and_goes_with_the_rate():
    gradient = torch.zeros(2, 3, 500, dtype=torch.float64)
    start = torch.rand(2, 3, 500, dtype=torch.float64)
    found = one_step(NoisyAdam(lr=0.5, sigma=0.1), start, gradient) - start
    assert found.mean().item() == pytest.approx(0.0, abs=4 * 0.05 / 3000**0.5)
    assert found.std().item() == pytest.approx(0.05, rel=0.05)
    assert not torch.equal(found[0], found[1])
    alone = one_step(NoisyAdam(lr=0.5, sigma=0.1), start[1:], gradient[1:]) - start[1:]
    assert torch.equal(alone[0], found[1])
    still = one_step(NoisyAdam(lr=0.5, sigma=0.0), start, gradient)
    assert torch.equal(still, start)


def descend(optimiser, curvature, start, steps):
    """Where a quadratic with these curvatures is taken from `start`."""
    state = {key: value[None] for key, value in optimiser.init(start).items()}
    rows = start[None].clone()
    for t in range(1, steps + 1):
        optimiser.step(rows, curvature * rows, state, [t])
    return rows[0]


def test_lbfgs_solves_a_quadratic_that_adam_does_not():
    curvature = torch.logspace(-2, 1, 6, dtype=torch.float64)[None]
    start = torch.ones(1, 6, dtype=torch.float64)
    found = descend(LimitedLBFGS(lr=1.0), curvature, start, 40)
    assert found.abs().max() < 1e-6
    assert descend(AdamW(lr=1.0), curvature, start, 40).abs().max() > 1e-2


def test_lbfgs_steps_are_no_longer_than_its_rate_and_begin_after_adam():
    curvature = torch.logspace(-2, 1, 6, dtype=torch.float64)[None]
    start = torch.full((1, 6), 50.0, dtype=torch.float64)
    moved = [descend(LimitedLBFGS(lr=0.1), curvature, start, n) for n in range(6)]
    lengths = torch.stack(moved).diff(dim=0).square().mean(dim=(1, 2)).sqrt()
    assert (lengths <= 0.1 + 1e-9).all()
    late = LimitedLBFGS(lr=1.0, after=5, adam_lr=0.3, betas=(0.8, 0.8))
    adam = AdamW(lr=0.3, betas=(0.8, 0.8))
    for steps, same in ((5, True), (6, False)):
        pair = [descend(one, curvature, start, steps) for one in (late, adam)]
        assert torch.equal(*pair) == same


# -- vectors ------------------------------------------------------------------------------------


def made(parametrisation, start, width):
    one = parametrisation.init(start, width, torch.Generator().manual_seed(0))
    return one, parametrisation.mem({name: value[None] for name, value in one.items()})[0]


def test_scale_and_direction_begin_at_the_start():
    start = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, mem = made(ScaleDirection(), start, 9)
    torch.testing.assert_close(mem, start)
    torch.testing.assert_close(one["direction"].norm(dim=-1), torch.full((2,), 3.0).double())


def test_a_fixed_length_is_kept_and_only_the_direction_begins_at_the_start():
    start = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, mem = made(FixedLength(size=0.5), start, 9)
    torch.testing.assert_close(mem.square().mean(-1).sqrt(), torch.full((2,), 0.5).double())
    torch.testing.assert_close(mem / mem.norm(dim=-1)[:, None], start / start.norm(dim=-1)[:, None])
    assert set(one) == {"direction"}


def test_separate_rates_begin_where_one_rate_does():
    start = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, mem = made(RowRates(ratio=0.5), start, 8)
    torch.testing.assert_close(mem, start)
    torch.testing.assert_close(one["rows"][2], 4 * start[2])
    _, plain = made(LowDim(k=8), start, 20)
    parts, mapped = made(MapRates(k=8, weight=0.1, z=2.0, bias=3.0), start, 20)
    torch.testing.assert_close(mapped, plain)
    torch.testing.assert_close(parts["z"], start / 2)


def test_two_layers_are_two_products():
    start = torch.rand(2, 4, dtype=torch.float64)
    one, mem = made(TwoLayerMap(k=4, hidden=6), start, 10)
    shapes = {name: tuple(value.shape) for name, value in one.items()}
    assert shapes == {"z": (2, 4), "first": (6, 4), "second": (10, 6), "bias": (10,)}
    torch.testing.assert_close(mem, start @ one["first"].T @ one["second"].T + one["bias"])


def test_a_map_may_begin_near_a_start():
    start = torch.rand(2, 64, dtype=torch.float64)
    one, mem = made(MapAtStart(), start, 64)
    torch.testing.assert_close(one["bias"], start.mean(0))
    assert one["z"].shape == (2, 8)
    assert (mem - start.mean(0)).abs().max() < 0.1


def test_starts_from_the_model_and_the_text(tiny_lm):
    table = tiny_lm.module.get_input_embeddings().weight.double()
    ids = torch.tensor([5, 6, 7, 8])
    request = CramRequest("a", ids, 2)
    torch.testing.assert_close(
        MeanEmbedding().of_text(tiny_lm, request), table.mean(0).expand(2, -1)
    )
    found = OwnEmbeddings().of_text(tiny_lm, request)
    torch.testing.assert_close(found, torch.stack([table[5:7].mean(0), table[7:9].mean(0)]))
    filled = OwnEmbeddings().of_text(tiny_lm, replace(request, ids=request.ids[:1]))
    assert torch.equal(filled[0], filled[-1])
    assert filled.isfinite().all()
    first = OwnEmbeddings(tokens=1).of_text(tiny_lm, replace(request, vectors=1))
    torch.testing.assert_close(first, table[5:6])
    noisy = MeanEmbedding(noise=0.5).of_text(tiny_lm, request) - table.mean(0)
    assert noisy.std().item() == pytest.approx(0.5 * tiny_lm.embedding_std, rel=0.3)


def test_a_start_of_vectors_is_refused_where_fewer_coordinates_begin(tiny_lm):
    recipe = parse_entry("default@start=MeanEmbedding").recipe
    with pytest.raises(UsageError, match="allowed: Direct, ScaleDirection, FixedLength"):
        with_starts(tiny_lm, recipe, [])
    with pytest.raises(UsageError, match="in the arena only"):
        next(Engine(tiny_lm, recipe).run([CramRequest("a", torch.tensor([1, 2]))]))
