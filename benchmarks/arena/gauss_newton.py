"""Gauss-Newton on the margins of one text: every token's own gradient instead of their mean."""

from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.models import FrozenLM
from memcram.models.accounting import margins

# Damping, relative to the mean diagonal of J Jᵀ: where it begins, and what a candidate changes.
_DAMPING, _FACTORS = 1e-2, (100.0, 10.0, 1.0, 0.1, 0.01)
# Each candidate is also tried at this share of its length.
_SHORTER = 0.3
# After as many turns without any better candidate, each with stronger damping, nothing is left.
_GIVE_UP = 3
_ROUNDS = 3


@dataclass(frozen=True)
class Pressed:
    """How far it went.

    Attributes:
        mem: (K, width), the last vectors that held all `held` tokens.
        held: tokens, under teacher forcing.
        token_steps: positions that went forward; those that went forward only count as much.
    """

    mem: Tensor
    held: int
    token_steps: int


def press_on(
    lm: FrozenLM,
    mem: Tensor,
    ids: Tensor,
    held: int,
    budget: int,
    *,
    margin: float = 0.02,
    goal: float = 0.05,
    guard: float = 0.3,
) -> Pressed:
    """Hold one token more, and again, until the budget is spent or no step helps.

    A turn takes the gradient of each token's margin μ, J (n, K · width), and the shortest step that
    brings all margins to the goal if they were linear, d = Jᵀ (J Jᵀ + λ I)⁻¹ max(0, goal − μ), over
    the tokens whose margin is below `guard` or would fall below the goal. Of five λ and two lengths
    the one that leaves least Σ max(0, goal − μ)² is taken. Source: Levenberg, Quarterly of Applied
    Mathematics 2 (1944), for the damping.

    Args:
        lm: the frozen model.
        mem: (K, width) to begin with.
        ids: (n,) of the text.
        held: tokens that `mem` holds.
        budget: token-steps.
        margin: a token is held if its margin (logits) exceeds this.
        goal: margin to aim at.
        guard: margin below which a token takes part in any case.
    """
    best, now, n, spent = mem, mem.clone(), held + 1, 0
    damping, failures = _DAMPING, 0
    while n <= len(ids) and spent < budget and failures < _GIVE_UP:
        found, jacobian = _margins_and_jacobian(lm, now, ids[:n])
        spent += n * lm.input_positions(len(mem), n)
        if bool((found > margin).all()):
            best, n, damping, failures = now, n + 1, _DAMPING, 0
            continue
        steps = [_step(found, jacobian, damping * f, goal, guard) for f in _FACTORS]
        tried = torch.stack([*steps, *(_SHORTER * step for step in steps)]).view(-1, *mem.shape)
        with torch.no_grad():
            after = _margins(lm, now + tried, ids[:n])
        spent += len(tried) * lm.input_positions(len(mem), n)
        costs = (goal - after).clamp(min=0).square().sum(1)
        least = int(costs.argmin())
        if costs[least] < (goal - found).clamp(min=0).square().sum():
            now, failures = now + tried[least], 0
            damping = min(1e3, max(1e-6, damping * _FACTORS[least % len(_FACTORS)]))
        else:
            damping, failures = damping * _FACTORS[0], failures + 1
    return Pressed(best, n - 1, spent)


def _margins(lm: FrozenLM, mems: Tensor, ids: Tensor) -> Tensor:
    """Margins (candidate, n) of one text behind each of `mems` (candidate, K, width)."""
    count, n = len(mems), len(ids)
    fed = torch.cat([lm.prefix, lm.embed(ids[:-1])]).expand(count, -1, -1)
    hidden = lm.hidden(torch.cat([mems, fed], dim=1))[:, -n:]
    logits = lm.head(hidden).flatten(0, 1)
    return margins(logits, ids.repeat(count)).view(count, n)


def _margins_and_jacobian(lm: FrozenLM, mem: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Margins (n,) and their gradients (n, K · width): row i of a batch answers for token i."""
    rows = mem.expand(len(ids), *mem.shape).clone().requires_grad_()
    found = _margins(lm, rows, ids)
    [jacobian] = torch.autograd.grad(found.diagonal().sum(), rows)
    return found[0].detach(), jacobian.flatten(1)


def _step(found: Tensor, jacobian: Tensor, damping: float, goal: float, guard: float) -> Tensor:
    """The damped step (K · width,), with the tokens that it would lose drawn in."""
    products = jacobian @ jacobian.T
    damped = products + damping * products.diagonal().mean() * torch.eye(len(found)).to(products)
    missing = (goal - found).clamp(min=0)
    inside = found < guard
    step = torch.zeros_like(jacobian[0])
    for _ in range(_ROUNDS):
        at = inside.nonzero()[:, 0]
        step = jacobian[at].T @ torch.linalg.solve(damped[at][:, at], missing[at])
        lost = (found + jacobian @ step < goal) & ~inside
        if not bool(lost.any()):
            break
        inside = inside | lost
    return step
