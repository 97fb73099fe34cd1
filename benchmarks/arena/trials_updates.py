"""Optimisers on trial: a line of the arena may name them, and the package knows none of them.

All are AdamW but for one thing, and see each slot apart.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memcram.engine.batch import ROW_BLOCK, SEED_STRIDE
from memcram.recipes.optimisers import AdamW
from memcram.recipes.optimisers.adamw import State, column
from memcram.recipes.ranges import AtLeastOne, Count, NotNegative, Positive


@dataclass(frozen=True)
class EigenAdam(AdamW):
    """Adam in the eigenbasis of the gradient's second moment, one for each slot and parameter.

    R ← β₂ R + (1 − β₂) GᵀG,  R = Q Λ Qᵀ,  m ← β₁ m + (1 − β₁) G,  v ← β₂ v + (1 − β₂) (G Q)²,
    x ← x (1 − η λ) − η · (m̂ Q / (√v̂ + floor · max √v̂ + ε)) Qᵀ

    G (n, d) has the parameter's last axis as its columns: n = K and d = width for `mem`. Source:
    SOAP (Vyas et al., ICLR 2025), one-sided; Q is computed anew instead of improved, and the floor
    is ours: where R has no full rank, some columns of Q see nothing but rounding.

    Attributes:
        every: steps from one Q to the next.
        floor: share of the largest √v̂ below which a direction is not raised to the others.
    """

    every: AtLeastOne = 10
    floor: NotNegative = 1e-4

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state tensors: m and v, shaped like the parameter; R and Q, (d, d)."""
        return ("m", "v", "second", "basis")

    def init(self, parameter: Tensor) -> State:
        """Zeros for one slot's parameter (..., d); the basis is there from the first step on."""
        d = parameter.shape[-1]
        square = {key: parameter.new_zeros(d, d) for key in ("second", "basis")}
        return super().init(parameter) | square

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, state: State, clocks: Sequence[int]) -> None:
        """Update `rows` (slot, ...) and `state` in place, as AdamW does."""
        beta1, beta2 = self.betas
        tall = _as_matrix(gradient)
        state["second"].mul_(beta2).add_(tall.mT @ tall, alpha=1 - beta2)
        due = [row for row, t in enumerate(clocks) if (t - 1) % self.every == 0]
        if due:
            # A slot that is about to end with a loss that is not finite must not end the others.
            second = state["second"][due].nan_to_num()
            state["basis"][due] = torch.linalg.eigh(second).eigenvectors
        basis = state["basis"]
        state["m"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        state["v"].mul_(beta2).add_(_times(gradient, basis).square_(), alpha=1 - beta2)
        correction1 = column([1 - beta1**t for t in clocks], rows)
        correction2 = column([(1 - beta2**t) ** 0.5 for t in clocks], rows)
        root = state["v"].sqrt() / correction2
        largest = root.flatten(1).amax(1).view(correction2.shape)
        turned = _times(state["m"], basis) / correction1 / (root + self.floor * largest + self.eps)
        rates = [self.rate(t) for t in clocks]
        rows.mul_(column([1 - rate * self.weight_decay for rate in rates], rows))
        rows.sub_(column(rates, rows) * _times(turned, basis.mT))


def _as_matrix(values: Tensor) -> Tensor:
    """(slot, n, d) of (slot, ..., d), with rows of 0 up to whole blocks.

    A product over the K of the longest batch-mate would round differently.
    """
    matrix = values.reshape(len(values), -1, values.shape[-1])
    return functional.pad(matrix, (0, 0, 0, -matrix.shape[1] % ROW_BLOCK))


def _times(values: Tensor, matrix: Tensor) -> Tensor:
    """(slot, ..., d) times (slot, d, d)."""
    n = values[0].numel() // values.shape[-1]
    return (_as_matrix(values) @ matrix)[:, :n].reshape(values.shape)


@dataclass(frozen=True)
class TensorAdam(AdamW):
    """Adam with one second moment for all of a slot's parameter: a gradient that is normalised.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) mean(g²),  x ← x (1 − η λ) − η · m̂ / (√v̂ + ε)
    """

    def init(self, parameter: Tensor) -> State:
        """Zero moments for one slot's parameter (any shape); v is one number."""
        return {"m": torch.zeros_like(parameter), "v": parameter.new_zeros(())}

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, state: State, clocks: Sequence[int]) -> None:
        """Update `rows` (slot, ...) and `state` in place, as AdamW does."""
        # Rows that only fill up to the K of a batch-mate are 0 and stay so; they don't count.
        own = ((rows != 0) | (gradient != 0)).flatten(1).sum(1).clamp(min=1)
        # In double precision: a sum rounds by the shape of the batch.
        mean = gradient.double().square().flatten(1).sum(1) / own
        beta1, beta2 = self.betas
        state["m"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        state["v"].mul_(beta2).add_(mean.to(rows), alpha=1 - beta2)
        correction1 = column([1 - beta1**t for t in clocks], rows)
        correction2 = column([(1 - beta2**t) ** 0.5 for t in clocks], rows)
        size = state["v"].sqrt().view(correction2.shape) / correction2 + self.eps
        rates = [self.rate(t) for t in clocks]
        rows.mul_(column([1 - rate * self.weight_decay for rate in rates], rows))
        rows.sub_(column(rates, rows) * state["m"] / correction1 / size)


@dataclass(frozen=True)
class CyclicAdam(AdamW):
    """AdamW whose rate falls along half a cosine to `final_lr`, again and again.

    η = final + (lr − final) · (1 + cos(π u)) / 2,  u = ((t − 1) mod period) / period

    Source: Loshchilov and Hutter, ICLR 2017. `warmup` and `decay_steps` have no part in it.

    Attributes:
        period: steps from one fall to the next.
    """

    period: AtLeastOne = 100

    def rate(self, t: int) -> float:
        """η at step t, counting from 1."""
        share = (t - 1) % self.period / self.period
        return self.final_lr + (self.lr - self.final_lr) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class NoisyAdam(AdamW):
    """AdamW, then x ← x + η · sigma · ξ with ξ uniform, of mean 0 and deviation 1.

    The noise is part of the step, so that the vectors that are kept are those that were measured.
    A slot's noise is seeded by where its parameter begins.

    Attributes:
        sigma: deviation of the noise, in learning rates; AdamW moves a coordinate by about one.
    """

    sigma: NotNegative = 0.1

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state tensors: the moments, shaped like the parameter, and a number."""
        return ("m", "v", "seed")

    def init(self, parameter: Tensor) -> State:
        """Zero moments for one slot's parameter (any shape), and the seed of its noise."""
        seed = zlib.crc32(parameter.cpu().numpy().tobytes())
        return super().init(parameter) | {"seed": torch.tensor(seed, device=parameter.device)}

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, state: State, clocks: Sequence[int]) -> None:
        """Update `rows` (slot, ...) and `state` in place, as AdamW does."""
        super().step(rows, gradient, state, clocks)
        for row, seed, t in zip(rows, state["seed"].tolist(), clocks, strict=True):
            generator = torch.Generator().manual_seed(SEED_STRIDE * seed + t)
            # Uniform numbers are drawn one by one: a longer batch-mate does not change the first.
            noise = 2 * torch.rand(row.shape, generator=generator, dtype=row.dtype) - 1
            row.add_(noise.to(row.device), alpha=3**0.5 * self.sigma * self.rate(t))


@dataclass(frozen=True)
class LimitedLBFGS(AdamW):
    """AdamW for `after` steps, then L-BFGS with steps of limited length instead of a line search.

    d = H g with H from the last `history` pairs (s, y) of moves and changes of the gradient, those
    with sᵀy > 0 only;  x ← x − d · min(1, η / rms(d)); without any pair, x ← x − η · g / rms(g).
    A line search would look at each slot's loss several times a step, while all slots share one
    pass. Source: Liu and Nocedal, Mathematical Programming 45 (1989). Each parameter has its own H,
    and a pair across which the prefix grew is of two losses.

    Attributes:
        history: pairs that are kept.
        after: steps of AdamW at its `adam_lr` before.
        adam_lr: η of these.
    """

    history: AtLeastOne = 10
    after: Count = 0
    adam_lr: Positive = 1.0

    @property
    def state(self) -> tuple[str, ...]:
        """The moments, the last point and gradient, the pairs, 1 / sᵀy of each, and sᵀy / yᵀy."""
        return ("m", "v", "x", "g", "moves", "changes", "inverse", "size")

    def init(self, parameter: Tensor) -> State:
        """Zeros for one slot's parameter (n, ...); pairs are (n, history, ...)."""
        pairs = parameter.unsqueeze(1).repeat_interleave(self.history, 1)
        state = {name: torch.zeros_like(parameter) for name in ("m", "v", "x", "g")}
        state |= {name: torch.zeros_like(pairs) for name in ("moves", "changes")}
        return state | {
            "inverse": parameter.new_zeros(self.history, dtype=torch.float64),
            "size": parameter.new_zeros((), dtype=torch.float64),
        }

    @torch.no_grad()
    def step(self, rows: Tensor, gradient: Tensor, state: State, clocks: Sequence[int]) -> None:
        """Update `rows` (slot, ...) and `state` in place, as AdamW does."""
        own = ((rows != 0) | (gradient != 0)).flatten(1).sum(1).clamp(min=1)
        self._add_pair(rows, gradient, state, clocks)
        early = torch.tensor([t <= self.after for t in clocks], device=rows.device)
        stepped = rows.clone()
        if bool(early.any()):
            adam = AdamW(lr=self.adam_lr, betas=self.betas)
            adam.step(stepped, gradient, state, clocks)
        direction = _flat(gradient)
        weights = []
        for i in range(self.history):
            move, change = _flat(state["moves"][:, :, i]), _flat(state["changes"][:, :, i])
            weights.append(state["inverse"][:, i] * (move * direction).sum(1))
            direction = direction - weights[-1][:, None] * change
        direction = direction * torch.where(state["size"] > 0, state["size"], 1.0)[:, None]
        for i in reversed(range(self.history)):
            move, change = _flat(state["moves"][:, :, i]), _flat(state["changes"][:, :, i])
            back = state["inverse"][:, i] * (change * direction).sum(1)
            direction = direction + (weights[i] - back)[:, None] * move
        length = (direction.square().sum(1) / own).sqrt() + self.eps
        limit = torch.tensor([self.rate(t) for t in clocks], dtype=torch.float64).to(rows.device)
        scale = limit / length
        scale = torch.where(state["size"] > 0, scale.clamp(max=1.0), scale)
        turned = rows - (direction * scale[:, None]).view(rows.shape).to(rows)
        rows.copy_(torch.where(early.view(-1, *[1] * (rows.dim() - 1)), stepped, turned))

    def _add_pair(
        self, rows: Tensor, gradient: Tensor, state: State, clocks: Sequence[int]
    ) -> None:
        """Put the last move and its change of the gradient first, where they agree."""
        move, change = rows - state["x"], gradient - state["g"]
        # In double precision: a sum rounds by the shape of the batch.
        along = (_flat(move) * _flat(change)).sum(1)
        square = _flat(change).square().sum(1)
        begun = torch.tensor([t > 1 for t in clocks], device=rows.device)
        good = begun & (along > 1e-12 * square) & along.isfinite()
        for row in good.nonzero()[:, 0].tolist():
            for name, new in (("moves", move), ("changes", change)):
                state[name][row] = state[name][row].roll(1, 1)
                state[name][row, :, 0] = new[row]
            state["inverse"][row] = state["inverse"][row].roll(1)
            state["inverse"][row, 0] = 1 / along[row]
            state["size"][row] = along[row] / square[row]
        state["x"].copy_(rows)
        state["g"].copy_(gradient)


def _flat(values: Tensor) -> Tensor:
    """(slot, n) in double precision."""
    return values.double().flatten(1)


UPDATES = (EigenAdam, TensorAdam, CyclicAdam, NoisyAdam, LimitedLBFGS)
