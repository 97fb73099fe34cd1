"""Define requests and slots, and stack slots in a batch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from memcram.engine.state import TextState, stack, unstack
from memcram.engine.subsampled import Subsampled
from memcram.errors import UsageError
from memcram.models.accounting import Accounting, padded_length, room
from memcram.models.memory import upload
from memcram.recipes.strategies import Measurement

# Texts are seeded by their position or number; the stride keeps neighbouring seeds apart.
SEED_STRIDE = 1_000_003

# CPU kernels work in blocks and finish with scalar code that rounds differently. With the length
# in whole blocks, and the counted rows too, no value depends on its position in a batch.
ROW_BLOCK = 32
_CURVE_POINTS = 256
# Limits on the points of a path: their number, and their bytes per text; but the limit is never
# below 16 points, so at least 8 remain.
_PATH_POINTS, _PATH_BYTES, _FEW_PATH_POINTS = 64, 4 * 2**20, 16


def no_tokens() -> Tensor:
    """Token ids (0,) of nothing."""
    return torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class CramRequest:
    """One text to cram.

    Attributes:
        key: the caller's name for it, returned with the result.
        ids: (n,) token ids, without BOS.
        vectors: K.
        seed: of the initial values; the same seed gives the same vectors in any batch.
        start: (K, start width) initial values that replace those of the recipe's initialiser.
        group: texts with the same number are optimised together from start to end, where the
            recipe's parametrisation shares parameters; it also seeds what they share.
        with_path: return the path too: `[mem]` as measured at some of the steps, fewer than 64
            points and the best vectors; fewer than 4 MiB / (K · width · bytes per value) where
            that is less, but at least 8 of a long run.
        init: (K, width) `[mem]` to start from, instead of drawn or `start` values; not for texts
            that share parameters.
        prefix: (p,) visible token ids that are fed after `[mem]` (and BOS), before the text, and
            never predicted.
    """

    key: Hashable
    ids: Tensor
    vectors: int = 1
    seed: int = 0
    start: Tensor | None = None
    group: int | None = None
    with_path: bool = False
    init: Tensor | None = None
    prefix: Tensor = field(default_factory=no_tokens)


@dataclass
class Slot:
    """State of one text in the engine.

    Attributes:
        request: what the caller asked for.
        accounting: positions that the loss runs over.
        lookahead: tokens beyond those that are measured too.
        state: its device state while it is not stacked in a batch, and the shapes of it while it
            is; unset until it joins a batch for the first time, so that waiting costs no memory.
        step: optimiser steps done.
        clock: steps of the optimiser state; returns to 0 when a slot is restored.
        token_steps: positions that went forward and backward.
        curve: (step, tokens held, mean loss) at some of the measurements, evenly spread.
        rises: (step, token-steps, tokens held) whenever more were held than ever before.
        path: measured `[mem]` (K, width) by step, evenly spread; None unless requested, and until
            the text joins a batch for the first time.
        n_noted: measurements that the host has seen.
        latest: the last of them.
    """

    request: CramRequest
    accounting: Accounting
    lookahead: int = 0
    state: TextState = field(init=False)
    step: int = 0
    clock: int = 0
    token_steps: int = 0
    curve: Subsampled[tuple[float, float, float]] = field(
        default_factory=lambda: Subsampled(_CURVE_POINTS)
    )
    rises: list[tuple[int, int, int]] = field(default_factory=list)
    path: Subsampled[Tensor] | None = None
    n_noted: int = 0
    latest: Measurement | None = None

    def begin(self, state: TextState) -> None:
        """Set the initial state, and begin a path if one is requested."""
        self.state = state
        if self.request.with_path:
            width = state.embeds[0]
            point = self.request.vectors * width.numel() * width.element_size()
            limit = min(_PATH_POINTS, max(_FEW_PATH_POINTS, _PATH_BYTES // point))
            self.path = Subsampled(limit)

    def target(self, n_tokens: int) -> None:
        """Let the loss run over the first `n_tokens` tokens."""
        self.accounting = replace(self.accounting, n_tokens=n_tokens)

    @property
    def has_begun(self) -> bool:
        """Whether it has a state."""
        return "state" in vars(self)

    def note(self, measured: Measurement) -> None:
        """Add a measurement to the rises and, on its stride, to the curve."""
        self.latest = measured
        if self.curve.wants(self.n_noted):
            self.curve.keep(self.n_noted, (measured.step, measured.n_held, measured.loss))
        self.n_noted += 1
        if measured.max_held > self.max_held:
            rise = measured.max_held_step, measured.token_steps, measured.max_held
            self.rises.append(rise)

    @property
    def max_held(self) -> int:
        """Maximum tokens held at any measurement that the host has seen."""
        return self.rises[-1][-1] if self.rises else 0

    @property
    def measured(self) -> Accounting:
        """The measured positions: those of the loss and those of the lookahead."""
        n = min(self.accounting.n_tokens + self.lookahead, len(self.request.ids))
        return replace(self.accounting, n_tokens=n)

    @property
    def length(self) -> int:
        """Input positions under teacher forcing."""
        return self.measured.input_length


@dataclass
class Batch:
    """Slots stacked along the first axis, right-padded, with the index of their counted tokens.

    Everything but `max_positions` and `slots` is unset until slots are stacked.

    Attributes:
        max_positions: the model's limit on `length`.
        slots: the slot of each row.
        on_path: row, slot and path of each slot that has a path.
        rows: the state of all slots.
        length: positions of the forward pass.
        is_mem: (slot, K, 1) where a row has a `[mem]` vector of its own.
        states: (counted,) index of each counted hidden state in (slot · position).
        cells: (2, counted) slot and token index of each counted token.
        is_measured: (slot, token).
        in_loss: (slot, token), without the tokens of the lookahead.
        targets: (counted,) token ids.
        weights: (counted,) 1 / tokens in the loss of the text, 0 for all others.
    """

    max_positions: int | None = None
    slots: list[Slot] = field(default_factory=list)
    on_path: list[tuple[int, Slot, Subsampled[Tensor]]] = field(default_factory=list)
    rows: TextState = field(init=False)
    length: int = 0
    is_mem: Tensor = field(init=False)
    states: Tensor = field(init=False)
    cells: Tensor = field(init=False)
    is_measured: Tensor = field(init=False)
    in_loss: Tensor = field(init=False)
    targets: Tensor = field(init=False)
    weights: Tensor = field(init=False)

    def seat(self, slots: list[Slot]) -> None:
        """Stack `slots`; those already in the batch keep their current state."""
        self.unstack()
        if not slots:
            self.slots, self.on_path = [], []
            return
        rows = stack([slot.state for slot in slots])
        # Together and last, so that Ctrl-C finds the batch either as it was or as it will be.
        self.slots, self.rows = slots, rows
        self.on_path = [(row, s, s.path) for row, s in enumerate(slots) if s.path is not None]
        self.index()

    def halve(self) -> list[Slot]:
        """Keep the first half of the texts, groups whole, and return the others.

        With a single text or group nothing is returned and nothing changes.
        """
        together = units(self.slots)
        keep = sum(len(unit) for unit in together[: len(together) // 2])
        if not keep:
            return []
        back = self.slots[keep:]
        self.seat(self.slots[:keep])
        return back

    def unstack(self) -> None:
        """Copy each slot's current state to the slot, without the padding."""
        for row, slot in enumerate(self.slots):
            slot.state = unstack(self.rows, row, slot.state)

    def index(self) -> None:
        """Index the counted tokens of all slots, on the host, once per change of the slots.

        Without a loop over the tokens: a GPU waits meanwhile, and holds thousands of texts.
        """
        ids = self.rows.ids
        device = ids.device
        longest = max(slot.length for slot in self.slots)
        self.length = padded_length(longest, self.max_positions)
        measured = [slot.measured for slot in self.slots]
        count = torch.tensor([len(one.tokens) for one in measured])
        # Of each counted token: its slot, and its number among the slot's counted tokens.
        row = torch.arange(len(count)).repeat_interleave(count)
        nth = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
        position = torch.tensor([one.positions.start for one in measured])[row] + nth
        token = torch.tensor([one.tokens.start for one in measured])[row] + nth
        in_loss = torch.tensor([len(slot.accounting.tokens) for slot in self.slots])[row]
        weights = (1.0 / in_loss.double()).masked_fill(nth >= in_loss, 0.0)
        states = row * self.length + position
        padding = -len(row) % ROW_BLOCK
        dtype = self.rows.step.dtype
        self.states = upload(torch.cat([states, states[:1].expand(padding)]), device)
        self.weights = upload(pad(weights, (0, padding)), device, dtype)
        self.cells = upload(torch.stack([row, token]), device)
        self.is_measured = torch.zeros_like(ids, dtype=torch.bool)
        self.is_measured[self.cells[0], self.cells[1]] = True
        self.in_loss = self.table(self.weights, 0.0) > 0
        counted = ids[self.cells[0], self.cells[1]]
        self.targets = torch.cat([counted, counted[:1].expand(padding)])
        vectors = [slot.accounting.vectors for slot in self.slots]
        k = torch.arange(max(vectors), device=device)
        self.is_mem = (k < upload(vectors, device)[:, None]).unsqueeze(-1)

    def embeds(self, mem: Tensor) -> Tensor:
        """Build (slot, position, width): each slot's K vectors, its frozen inputs, then zeros.

        Args:
            mem: (slot, K, width), right-padded where a slot has fewer vectors.
        """
        frozen = self.rows.embeds[:, : self.length]
        k = mem.shape[1]
        own = torch.where(self.is_mem, mem, frozen[:, :k])
        missing = self.length - frozen.shape[1]
        return pad(torch.cat([own, frozen[:, k:]], 1), (0, 0, 0, missing))

    def table(self, values: Tensor, fill: float) -> Tensor:
        """Spread one value per counted token over (slot, token), `fill` where none is counted."""
        n = self.cells.shape[1]
        table = torch.full(self.is_measured.shape, fill, dtype=values.dtype, device=values.device)
        table[self.cells[0], self.cells[1]] = values[:n]
        return table


def check_room(request: CramRequest, account: Accounting, max_positions: int | None) -> None:
    """Refuse a text without vectors or tokens to predict, or that exceeds positions or seeds.

    Args:
        request: the text.
        account: of all its tokens.
        max_positions: the model's limit; None without one.

    Raises:
        UsageError: says what is wrong with it.
    """
    text = f"text {request.key!r}: {account.n_tokens} tokens"
    if request.vectors < 1:
        raise UsageError(argument="vectors", got=request.vectors, allowed="1 or more")
    if not -(2**63) <= request.seed < 2**64:  # what torch takes
        raise UsageError(argument="seed", got=request.seed, allowed="an integer of 64 bits")
    if len(account.tokens) < 1:
        raise UsageError(f"{text}, none to predict")
    fitting = room(max_positions, account.vectors, account.prefix)
    if fitting is not None and account.n_tokens > fitting:
        raise UsageError(
            f"{text} and {account.vectors} vectors exceed the model's {max_positions} positions",
            allowed=f"{max(0, fitting)} tokens",
        )


def units(slots: Sequence[Slot]) -> list[list[Slot]]:
    """Group requests that are scheduled together: those of a group, or a single one, in order."""
    found: dict[Hashable, list[Slot]] = {}
    for i, slot in enumerate(slots):
        group = slot.request.group
        found.setdefault(("alone", i) if group is None else group, []).append(slot)
    return list(found.values())


def group_mean(gradient: Tensor, slots: Sequence[Slot], resting: set[int]) -> Tensor:
    """Compute the gradient of each group's mean loss, in each of its rows; (slot, ...)."""
    row_of = {id(slot): row for row, slot in enumerate(slots)}
    result = torch.zeros_like(gradient)
    for unit in units([slot for row, slot in enumerate(slots) if row not in resting]):
        members = upload([row_of[id(slot)] for slot in unit], gradient.device)
        result[members] = gradient[members].mean(0)
    return result
