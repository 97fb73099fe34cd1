"""THE loop: fill slots, measure, decide, step, retire, refill.

All texts of a batch go through the frozen LM together, and each keeps its own clock, optimiser
state and strategy, so that a text's result does not depend on who shares its batch. What is saved
is what was measured: the best vectors are copied aside at the measurement, before any step.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.errors import ModelError, UsageError
from memcram.models.frozen_lm import FrozenLM
from memcram.objective import Accounting
from memcram.recipes import Recipe
from memcram.slots import MIN_ROWS, Batch, Slot
from memcram.strategies import Measurement, Outcome, Stop

# Logits held at once, in elements; 2²⁵ in float32 are 128 MiB.
_LOGITS_AT_ONCE = 2**25
_CPU_BATCH_TOKENS = 1024
_ACCELERATOR_BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class CramRequest:
    """One text to cram.

    Attributes:
        key: the caller's name for it, handed back in the result.
        ids: (n,) token ids, without BOS.
        vectors: K.
        seed: of the start; the same seed gives the same vectors in any batch.
        start: (K, width) to begin from instead of the recipe's start.
    """

    key: Hashable
    ids: Tensor
    vectors: int = 1
    seed: int = 0
    start: Tensor | None = None


@dataclass(frozen=True)
class Crammed:
    """The best vectors of one text, and how they came about.

    Attributes:
        key: of the request.
        mem: (K, width) on the CPU, in the model's dtype: the vectors that were measured.
        outcome: how it ended, judged under teacher forcing; decoding has the last word.
        n_right: counted tokens that are the argmax.
        margins: (counted,) in logits.
        best_step: optimiser steps before these vectors.
        steps: optimiser steps spent in all.
        token_steps: positions that went forward and backward.
    """

    key: Hashable
    mem: Tensor
    outcome: Outcome
    n_right: int
    margins: Tensor
    best_step: int
    steps: int
    token_steps: int


@dataclass(frozen=True)
class EngineStatus:
    """Where a run stands, handed to `on_poll`.

    Attributes:
        done, active, waiting: texts.
        tokens_right: best number of right tokens so far, summed over the active texts.
        steps: turns of the loop so far.
    """

    done: int
    active: int
    waiting: int
    tokens_right: int
    steps: int


class Engine:
    """Crams many texts at once with one recipe.

    Args:
        lm: the frozen model.
        recipe: what to do.
        batch_tokens: positions one forward pass may hold; None takes what the device likes.
        poll_every: steps between two looks of the host at the measurements; between them the
            device keeps the best vectors by itself. None: 1 on a CPU, 8 elsewhere.

    Example:
        >>> import torch, memcram
        >>> from memcram.engine import CramRequest, Engine
        >>> lm = memcram.load_lm("pocket")
        >>> ids = torch.tensor(lm.tokenize("It was a dark night"))
        >>> [crammed] = Engine(lm, memcram.get_recipe("default")).run([CramRequest("a", ids)])
        >>> str(crammed.outcome), crammed.mem.shape
        ('right', torch.Size([1, 256]))
    """

    def __init__(
        self,
        lm: FrozenLM,
        recipe: Recipe,
        batch_tokens: int | None = None,
        poll_every: int | None = None,
    ) -> None:
        on_cpu = lm.device.type == "cpu"
        usual = _CPU_BATCH_TOKENS if on_cpu else _ACCELERATOR_BATCH_TOKENS
        self.lm = lm
        self.recipe = recipe
        self.batch_tokens = batch_tokens or usual
        self.poll_every = poll_every or (1 if on_cpu else 8)
        self._master = torch.float64 if lm.dtype == torch.float64 else torch.float32

    def run(
        self,
        requests: Iterable[CramRequest],
        on_poll: Callable[[EngineStatus], None] | None = None,
    ) -> Iterator[Crammed]:
        """Cram all requests, yielding each as it is done, in no fixed order.

        On Ctrl-C every text in work is yielded with its best vectors and the outcome
        `interrupted`, then KeyboardInterrupt goes on; texts that had not begun are left out.

        Raises:
            UsageError: a request is empty, asks for no vectors, or exceeds the model's positions.
            ModelError: the device has no memory even for one text.
        """
        todo = list(requests)
        waiting = sorted(
            (self._new_slot(place, request) for place, request in enumerate(todo)),
            key=lambda slot: -slot.length,
        )
        batch = Batch()
        done = steps = 0
        try:
            while waiting or batch.slots:
                self._fill(batch, waiting)
                poll = steps % self.poll_every == 0
                try:
                    stops = self._turn(batch, poll=poll)
                except RuntimeError as error:
                    self._shrink(batch, waiting, error)
                    continue
                steps += 1
                retired = self._retire(batch, stops)
                done += len(retired)
                if on_poll is not None and poll:
                    right = int(batch.rows["best_right"].clamp(min=0).sum()) if batch.slots else 0
                    on_poll(EngineStatus(done, len(batch.slots), len(waiting), right, steps))
                yield from (self._result(todo[s.place], s, stop.outcome) for s, stop in retired)
        except KeyboardInterrupt:
            batch.unstack()
            yield from (self._result(todo[s.place], s, Outcome.INTERRUPTED) for s in batch.slots)
            raise

    # -- slots ----------------------------------------------------------------------------------

    def _new_slot(self, place: int, request: CramRequest) -> Slot:
        lm, n = self.lm, len(request.ids)
        account = Accounting(request.vectors, len(lm.prefix), n, self.recipe.first_token_given)
        _check(request, account, lm.max_positions)
        generator = torch.Generator().manual_seed(request.seed)
        start = request.start
        if start is None:
            shape = (request.vectors, lm.input_width)
            start = self.recipe.start.draw(shape, lm.embedding_std, generator)
        parameters = self.recipe.parametrisation.init(start.to(lm.device, self._master), generator)
        # What is frozen is computed once: BOS and the tokens that are fed, behind K empty rows.
        room = torch.zeros(request.vectors, lm.input_width, dtype=lm.dtype, device=lm.device)
        embeds = torch.cat([room, lm.prefix, lm.embed(request.ids[:-1])])
        nothing = torch.full((n,), float("-inf"), dtype=self._master, device=lm.device)
        zero = torch.zeros((), dtype=self._master, device=lm.device)
        tensors = {"ids": request.ids.to(lm.device), "embeds": embeds, "best_margins": nothing}
        tensors |= {"step": zero, "best_right": zero - 1, "best_step": zero, "right_step": zero}
        for name, value in parameters.items():
            tensors[f"parameter.{name}"] = value
            tensors[f"best.{name}"] = value.clone()
            for key, moment in self.recipe.optimiser.init(value).items():
                tensors[f"{key}.{name}"] = moment
        return Slot(place, account, tensors)

    def _fill(self, batch: Batch, waiting: list[Slot]) -> None:
        """Seat waiting texts while the padded batch stays within `batch_tokens`."""
        new: list[Slot] = []
        length = max((slot.length for slot in batch.slots), default=0)
        for slot in waiting:
            count = len(batch.slots) + len(new) + 1
            longest = max(length, slot.length, MIN_ROWS)
            if count == 1 or longest * count <= self.batch_tokens:
                new.append(slot)
                length = longest
        if new:
            seated = {id(slot) for slot in new}
            waiting[:] = [slot for slot in waiting if id(slot) not in seated]
            batch.seat(batch.slots + new)

    def _shrink(self, batch: Batch, waiting: list[Slot], error: RuntimeError) -> None:
        """After running out of memory: put half of the texts back and go on with less."""
        if not _is_out_of_memory(error):
            raise error
        if len(batch.slots) == 1:
            raise ModelError(
                "out of memory with a single text in the batch; use shorter chunks, a smaller "
                "dtype or another device"
            ) from error
        if self.lm.device.type == "cuda":
            torch.cuda.empty_cache()
        keep = len(batch.slots) // 2
        self.batch_tokens = max(1, batch.length * keep)
        back = batch.slots[keep:]
        batch.seat(batch.slots[:keep])
        waiting[:0] = back

    def _retire(self, batch: Batch, stops: dict[int, Stop]) -> list[tuple[Slot, Stop]]:
        if not stops:
            return []
        slots = batch.slots
        batch.seat([slot for row, slot in enumerate(slots) if row not in stops])
        return [(slots[row], stop) for row, stop in stops.items()]

    def _result(self, request: CramRequest, slot: Slot, outcome: Outcome) -> Crammed:
        best = {
            name.removeprefix("best."): value.unsqueeze(0)
            for name, value in slot.tensors.items()
            if name.startswith("best.")
        }
        mem = self.recipe.parametrisation.mem(best)[0].to(self.lm.dtype)
        margins = slot.tensors["best_margins"][slot.accounting.tokens.start :]
        return Crammed(
            key=request.key,
            mem=mem.detach().cpu().clone(),
            outcome=outcome,
            n_right=max(0, int(slot.tensors["best_right"])),
            margins=margins.cpu().clone(),
            best_step=int(slot.tensors["best_step"]),
            steps=slot.step,
            token_steps=slot.token_steps,
        )

    # -- one turn -------------------------------------------------------------------------------

    def _turn(self, batch: Batch, *, poll: bool) -> dict[int, Stop]:
        """Measure, decide, then step; returns the rows that are to retire."""
        prefix = "parameter."
        parameters = {
            name.removeprefix(prefix): rows.detach().requires_grad_()
            for name, rows in batch.rows.items()
            if name.startswith(prefix)
        }
        mem = self.recipe.parametrisation.mem(parameters)
        hidden = self.lm.hidden(batch.embeds(mem.to(self.lm.dtype)))
        counted = hidden.flatten(0, 1).index_select(0, batch.states)
        loss, margin, gradient = self._score(batch, counted.detach())
        seen = self._keep_best(batch, loss, margin)
        for slot in batch.slots:
            slot.token_steps += slot.length
        stops = self._decide(batch, seen) if poll else {}
        if len(stops) < len(batch.slots):
            counted.backward(gradient)
            self._step(batch, parameters)
        return stops

    def _score(self, batch: Batch, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss and margin (counted,), and the gradient of Σ weight · loss to the hidden states.

        The head runs over some rows at a time, so that logits never fill the memory.
        """
        size = max(MIN_ROWS, _LOGITS_AT_ONCE // self.lm.vocab_size)
        pieces = zip(
            counted.split(size), batch.targets.split(size), batch.weights.split(size), strict=True
        )
        losses, margins, gradients = [], [], []
        for hidden, targets, weights in pieces:
            hidden.requires_grad_()
            scores = self.recipe.objective(self.lm.head(hidden), targets)
            total = (scores.loss * weights).sum()
            gradients.append(torch.autograd.grad(total, hidden)[0])
            losses.append(scores.loss.detach())
            margins.append(scores.margin.detach())
        return torch.cat(losses), torch.cat(margins), torch.cat(gradients)

    @torch.no_grad()
    def _keep_best(self, batch: Batch, loss: Tensor, margin: Tensor) -> Tensor:
        """Copy aside the vectors just measured, where they are the best so far.

        More tokens right is better; among equals, a larger smallest margin. Nothing leaves the
        device.

        Returns:
            (slot, 5): tokens right, most tokens right, the step that was first seen, smallest
            margin, mean loss.
        """
        rows = batch.rows
        table = batch.table(margin.to(self._master), float("inf"))
        right = ((table > 0) & batch.is_counted).sum(1).to(self._master)
        smallest = table.amin(1)
        known = rows["best_margins"].masked_fill(~batch.is_counted, float("inf")).amin(1)
        more = right > rows["best_right"]
        better = more | ((right == rows["best_right"]) & (smallest > known))
        for name in [name for name in rows if name.startswith("parameter.")]:
            best = name.replace("parameter.", "best.", 1)
            wide = better.view(-1, *[1] * (rows[name].dim() - 1))
            rows[best] = torch.where(wide, rows[name], rows[best])
        rows["best_margins"] = torch.where(better[:, None], table, rows["best_margins"])
        rows["best_right"] = torch.where(more, right, rows["best_right"])
        rows["best_step"] = torch.where(better, rows["step"], rows["best_step"])
        rows["right_step"] = torch.where(more, rows["step"], rows["right_step"])
        mean = batch.table((loss * batch.weights).to(self._master), 0.0).sum(1)
        return torch.stack([right, rows["best_right"], rows["right_step"], smallest, mean], 1)

    def _decide(self, batch: Batch, seen: Tensor) -> dict[int, Stop]:
        stops: dict[int, Stop] = {}
        for row, (slot, values) in enumerate(zip(batch.slots, seen.tolist(), strict=True)):
            n_right, best_right, right_step, smallest, loss = values
            measured = Measurement(
                step=slot.step,
                n_counted=len(slot.accounting.tokens),
                n_right=int(n_right),
                best_right=int(best_right),
                best_right_step=int(right_step),
                min_margin=smallest,
                loss=loss,
            )
            decision = self.recipe.strategy.decide(measured)
            if loss != loss or abs(loss) == float("inf"):
                stops[row] = Stop(Outcome.NON_FINITE)
            elif isinstance(decision, Stop):
                stops[row] = decision
        return stops

    def _step(self, batch: Batch, parameters: dict[str, Tensor]) -> None:
        rows = batch.rows
        rows["step"] = rows["step"] + 1
        for slot in batch.slots:
            slot.step += 1
        for name, values in parameters.items():
            gradient = values.grad
            assert gradient is not None, name
            state = {key: rows[f"{key}.{name}"] for key in self.recipe.optimiser.state}
            self.recipe.optimiser.step(rows[f"parameter.{name}"], gradient, state, rows["step"])


def _check(request: CramRequest, account: Accounting, max_positions: int | None) -> None:
    if request.vectors < 1:
        raise UsageError(f"vectors: got {request.vectors}, allowed: 1 or more")
    if len(account.tokens) < 1:
        raise UsageError(f"text {request.key!r}: {account.n_tokens} tokens, none to predict")
    needed = account.input_length + 1  # the decoder also feeds the last token's predecessor
    if max_positions is not None and needed > max_positions:
        room = max_positions - account.vectors - account.prefix
        raise UsageError(
            f"text {request.key!r}: {account.n_tokens} tokens and {account.vectors} vectors exceed "
            f"the model's {max_positions} positions; allowed: {max(0, room)} tokens"
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in str(error).lower()
        or ("can't allocate memory" in str(error))
    )
