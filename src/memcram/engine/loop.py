"""The optimisation loop: fill slots, measure, decide, step, retire, refill.

All texts of a batch go through the frozen LM together. Each has its own step count, optimiser state
and decisions, so its result does not depend on the other texts in the batch. The best vectors are
copied at the measurement, before any step, so what is saved is what was measured.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memcram.engine.batch import ROW_BLOCK, Batch, CramRequest, Slot, check_room, group_mean, units
from memcram.engine.batch_size import usual_batch_tokens
from memcram.engine.best import keep_best, keep_path, restore_best
from memcram.engine.checkpoint import Checkpoint, checkpoints_of, restore
from memcram.engine.compute import ComputeDtype, choose_compute_dtype, raise_compile_error, trunk_of
from memcram.engine.finishing import finished, finishing_recipe
from memcram.engine.initial import initial_parameters
from memcram.engine.result import Crammed, crammed_of
from memcram.engine.state import initial_state, tree_map, where
from memcram.errors import ModelError
from memcram.models.accounting import Accounting, padded_length
from memcram.models.frozen_lm import FrozenLM
from memcram.models.memory import free_memory, is_out_of_memory
from memcram.recipes.objectives.base import MarginObjective, TokenScores
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Continue, Decision, Measurement, Outcome, Retarget, Stop

# Logits held at once, in elements; 2²⁵ in float32 are 128 MiB.
_LOGITS_AT_ONCE = 2**25


@dataclass(frozen=True)
class EngineStatus:
    """Progress of a run, passed to `on_poll`.

    Attributes:
        done, active, waiting: texts.
        tokens_correct: maximum correct tokens so far, summed over the active texts.
        steps: iterations of the loop so far.
    """

    done: int
    active: int
    waiting: int
    tokens_correct: int
    steps: int


class Engine:
    """Crams many texts at once with one recipe.

    Args:
        lm: the frozen model.
        recipe: how to cram them.
        batch_tokens: positions per forward pass; None: 1,024 on a CPU, what fits in the free
            memory of a CUDA device.
        poll_every: steps between host synchronisations; in between, the device keeps the best
            vectors on its own. None: 1 on a CPU and for a strategy that must see every step,
            else 8.
        compute_dtype: dtype of the trunk while optimising: `auto` (bfloat16 where that is measured
            to be faster and the model is large), `float32`, `bfloat16`, or a torch.dtype. Vectors
            optimised in a lower precision than the model's are finished in the model's before
            they are returned (`engine/finishing.py`).
        compile_trunk: compile the copy of the model in that lower precision with `torch.compile`,
            layer by layer. Finishing is not compiled.

    Raises:
        UsageError: the model cannot be optimised in `compute_dtype`, or not be compiled.
        ModelError: the layers to compile are not found.

    Examples:
        >>> import torch, memcram
        >>> from memcram.engine.loop import Engine
        >>> lm = memcram.load_lm("pocket")
        >>> ids = torch.tensor(lm.tokenize("It was a dark night"))
        >>> request = memcram.CramRequest("a", ids)
        >>> [crammed] = Engine(lm, memcram.get_recipe("default")).run([request])
        >>> str(crammed.outcome), crammed.mem.shape
        ('right', torch.Size([1, 256]))
    """

    def __init__(
        self,
        lm: FrozenLM,
        recipe: Recipe,
        batch_tokens: int | None = None,
        poll_every: int | None = None,
        compute_dtype: ComputeDtype | torch.dtype = "auto",
        compile_trunk: bool = False,
    ) -> None:
        on_cpu = lm.device.type == "cpu"
        self.lm = lm
        self.recipe = recipe
        often = on_cpu or recipe.strategy.every_step
        self.poll_every = poll_every or (1 if often else 8)
        self.compute_dtype = choose_compute_dtype(lm, compute_dtype)
        self.compile_trunk = compile_trunk
        self._trunk = trunk_of(lm, self.compute_dtype, compile_trunk)
        self.batch_tokens = batch_tokens or usual_batch_tokens(self._trunk)
        self._finisher: Engine | None = None
        if self.compute_dtype != lm.dtype:
            self._finisher = Engine(
                lm, finishing_recipe(recipe), batch_tokens, poll_every, compute_dtype=lm.dtype
            )
        self._master = torch.float64 if lm.dtype == torch.float64 else torch.float32
        self._in_progress: tuple[Batch, list[Slot]] = (Batch(), [])

    def run(
        self,
        requests: Iterable[CramRequest],
        on_poll: Callable[[EngineStatus], None] | None = None,
        follow_up: Callable[[Crammed], CramRequest | None] | None = None,
        checkpoints: Mapping[Any, Checkpoint] | None = None,
    ) -> Iterator[Crammed]:
        """Cram all requests and yield each as it finishes, in no fixed order.

        On Ctrl-C every text in progress is yielded with its best vectors and the outcome
        `interrupted`, then KeyboardInterrupt propagates; texts that had not begun are left out.

        Args:
            requests: the texts.
            on_poll: called after every host synchronisation.
            follow_up: called with each result; may return another request.
            checkpoints: state from which texts continue, by key; one of another recipe or text is
                ignored.

        Raises:
            UsageError: a request is empty, asks for no vectors, exceeds the model's positions, or
                has vectors that the recipe cannot start from.
            ModelError: the device has too little memory even for one text, or torch cannot
                compile the model.
        """
        kept = checkpoints or {}
        slots = [self._begun_or_new(request, kept.get(request.key)) for request in requests]
        waiting = sorted(slots, key=lambda slot: -slot.length)
        batch = Batch(self.lm.max_positions)
        self._in_progress = (batch, waiting)
        done, steps = 0, int(any(slot.has_begun for slot in slots))  # checkpoints follow a poll
        retired: list[Crammed] = []
        try:
            while waiting or batch.slots:
                self._fill(batch, waiting)
                poll = steps % self.poll_every == 0
                try:
                    decisions = self._turn(batch, poll=poll)
                except RuntimeError as error:
                    raise_compile_error(error)
                    self._shrink(batch, waiting, error)
                    continue
                steps += 1
                ended = self._follow(batch, decisions)
                retired = [crammed for _, crammed in ended]
                if self._finisher is not None:
                    # Until finished, a text that Ctrl-C finds here counts as interrupted.
                    retired = [replace(one, outcome=Outcome.INTERRUPTED) for one in retired]
                    for i, one in finished(self._finisher.run, self.recipe, ended):
                        retired[i] = one
                done += len(retired)
                if follow_up is not None:
                    following = [follow_up(crammed) for crammed in retired]
                    waiting += [self._new_slot(request) for request in following if request]
                if on_poll is not None and poll:
                    correct = sum(slot.max_held for slot in batch.slots)
                    on_poll(EngineStatus(done, len(batch.slots), len(waiting), correct, steps))
                while retired:
                    yield retired.pop(0)
        except KeyboardInterrupt:
            batch.unstack()
            yield from retired
            begun = [*batch.slots, *(slot for slot in waiting if slot.has_begun)]
            yield from (self._retired(slot, Outcome.INTERRUPTED) for slot in begun)
            raise

    # -- slots ----------------------------------------------------------------------------------

    def checkpoints(self) -> dict[Any, dict[str, Tensor]]:
        """Copy the state of every text in progress, by key; only to be called by `on_poll`.

        Texts that share parameters with others are left out: they can't continue on their own.
        """
        return checkpoints_of(*self._in_progress, bool(self.recipe.parametrisation.shared))

    @property
    def begun(self) -> list[Any]:
        """Keys of the texts in progress; only to be read by `on_poll`."""
        batch, waiting = self._in_progress
        return [slot.request.key for slot in [*batch.slots, *waiting] if slot.has_begun]

    @property
    def latest(self) -> dict[Any, Measurement]:
        """Last measurement of each text in the batch, by key; only to be read by `on_poll`."""
        return {slot.request.key: slot.latest for slot in self._in_progress[0].slots if slot.latest}

    def _begun_or_new(self, request: CramRequest, checkpoint: Checkpoint | None) -> Slot:
        """Create a slot; it has begun where there is a checkpoint to continue from."""
        slot = self._new_slot(request)
        if checkpoint is None:
            return slot
        self._prepare(slot)
        try:
            restore(slot, checkpoint)
        except ValueError:
            return self._new_slot(request)
        return slot

    def _new_slot(self, request: CramRequest) -> Slot:
        strategy, n = self.recipe.strategy, len(request.ids)
        given = self.recipe.first_token_given
        before = len(self.lm.prefix) + len(request.prefix)
        account = Accounting(request.vectors, before, n, given)
        check_room(request, account, self.lm.max_positions)
        target = max(strategy.first_target(n), account.tokens.start + 1)
        return Slot(request, replace(account, n_tokens=target), strategy.lookahead)

    def _prepare(self, slot: Slot) -> None:
        """Create a text's state on the device, when it joins a batch for the first time."""
        lm, request = self._trunk, slot.request
        parameters = initial_parameters(self.recipe, lm, request, self._master)
        # Computed once: K empty rows, BOS, and the tokens that are fed.
        empty = torch.zeros(request.vectors, lm.input_width, dtype=lm.dtype, device=lm.device)
        fed = torch.cat([request.prefix.to(request.ids), request.ids[:-1]])
        embeds = torch.cat([empty, lm.prefix, lm.embed(fed)])
        ids = request.ids.to(lm.device)
        slot.begin(initial_state(ids, embeds, parameters, self.recipe.optimiser, self._master))

    def _fill(self, batch: Batch, waiting: list[Slot]) -> None:
        """Add waiting texts, groups whole, while the padded batch stays within `batch_tokens`."""
        new: list[Slot] = []
        count, length = len(batch.slots), max((slot.length for slot in batch.slots), default=0)
        # Thousands of texts may wait, so a full batch must not look at each of them every turn.
        for unit in units(waiting) if self._takes(length, count, 1) else ():
            longest = max(length, *(slot.length for slot in unit))
            if self._takes(longest, count, len(unit)):
                new += unit
                count, length = count + len(unit), longest
            elif not self._takes(length, count, 1):
                break
        if new:
            seated = {id(slot) for slot in new}
            for slot in new:
                if not slot.has_begun:
                    self._prepare(slot)
            waiting[:] = [slot for slot in waiting if id(slot) not in seated]
            batch.seat(batch.slots + new)

    def _takes(self, longest: int, count: int, more: int) -> bool:
        """Whether a batch of `count` texts takes more; an empty one takes any."""
        padded = padded_length(longest, self.lm.max_positions)
        return not count or padded * (count + more) <= self.batch_tokens

    def _shrink(self, batch: Batch, waiting: list[Slot], error: RuntimeError) -> None:
        """After running out of memory, put half of the texts back and continue with less."""
        if not is_out_of_memory(error):
            raise error
        free_memory(error)
        length = batch.length
        back = batch.halve()
        if not back:
            raise ModelError(
                "out of memory with a single text or group in the batch; use shorter chunks, a "
                "smaller dtype or another device"
            ) from error
        self.batch_tokens = max(1, length * len(batch.slots))
        waiting[:0] = back

    def _follow(
        self, batch: Batch, decisions: dict[int, Decision]
    ) -> list[tuple[CramRequest, Crammed]]:
        """Carry out what was decided, after the step; return the texts that are done."""
        targets = {row: d for row, d in decisions.items() if isinstance(d, Retarget)}
        stops = {row: d for row, d in decisions.items() if isinstance(d, Stop)}
        for row, retarget in targets.items():
            batch.slots[row].target(retarget.n_tokens)
            if retarget.restore:
                restore_best(batch, row, self.recipe.optimiser)
        slots = batch.slots
        if stops:
            batch.seat([slot for row, slot in enumerate(slots) if row not in stops])
        elif targets:
            batch.index()
        return [
            (slots[row].request, self._retired(slots[row], stop.outcome))
            for row, stop in stops.items()
        ]

    def _retired(self, slot: Slot, outcome: Outcome) -> Crammed:
        return crammed_of(slot, outcome, self.recipe, self.lm.dtype)

    # -- one turn -------------------------------------------------------------------------------

    def _turn(self, batch: Batch, *, poll: bool) -> dict[int, Decision]:
        """Measure, decide, then step; return what was decided, by row."""
        parameters = {
            name: trained.value.detach().requires_grad_()
            for name, trained in batch.rows.parameters.items()
        }
        mem = self.recipe.parametrisation.mem(parameters).to(self.lm.dtype)
        hidden = self._trunk.hidden(batch.embeds(mem.to(self._trunk.dtype)))
        counted = hidden.flatten(0, 1).index_select(0, batch.states)
        loss, margin, gradient = self._score(batch, counted.detach())
        seen = keep_best(batch, self.recipe.strategy, loss, margin)
        keep_path(batch, mem)
        decisions = self._decide(batch, seen) if poll else {}
        resting = {row for row, decision in decisions.items() if self._rests(decision)}
        if len(resting) < len(batch.slots):
            counted.backward(gradient)
            self._step(batch, parameters, resting)
        # Last, so that a turn repeated after running out of memory counts once.
        for slot in batch.slots:
            slot.token_steps += slot.length
        return decisions

    def _score(self, batch: Batch, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute loss and margin (counted,), and the gradient of Σ weight · loss to the states.

        The head runs over a limited number of rows at a time, which bounds the memory of logits.
        """
        size = max(1, _LOGITS_AT_ONCE // self.lm.vocab_size // ROW_BLOCK) * ROW_BLOCK
        pieces = zip(
            counted.split(size), batch.targets.split(size), batch.weights.split(size), strict=True
        )
        losses, margins, gradients = [], [], []
        for hidden, targets, weights in pieces:
            hidden.requires_grad_()
            scores = self._scores(hidden, targets)
            total = (scores.loss * weights).sum()
            gradients.append(torch.autograd.grad(total, hidden)[0])
            losses.append(scores.loss.detach())
            margins.append(scores.margin.detach())
        return torch.cat(losses), torch.cat(margins), torch.cat(gradients)

    def _scores(self, hidden: Tensor, targets: Tensor) -> TokenScores:
        """Compute loss and margin per token; a loss of the margin needs two logits per token."""
        objective = self.recipe.objective
        if isinstance(objective, MarginObjective) and self.lm.has_sparse_margins:
            margin = self.lm.margins(hidden, targets, self._trunk)
            return TokenScores(objective.of_margin(margin), margin.detach())
        return objective(self.lm.head(hidden), targets)

    def _decide(self, batch: Batch, seen: Tensor) -> dict[int, Decision]:
        decisions: dict[int, Decision] = {}
        for row, (slot, values) in enumerate(zip(batch.slots, seen.tolist(), strict=True)):
            held, max_held, max_held_step, smallest, loss = values
            given = slot.accounting.tokens.start
            measured = Measurement(
                step=slot.step,
                n_tokens=len(slot.accounting.tokens),
                n_held=int(held),
                max_held=int(max_held),
                max_held_step=int(max_held_step),
                min_margin=smallest,
                loss=loss,
                text_tokens=len(slot.request.ids) - given,
                token_steps=slot.token_steps + slot.length,
            )
            slot.note(measured)
            decision = self.recipe.strategy.decide(measured)
            if not math.isfinite(loss):
                decision = Stop(Outcome.NON_FINITE)
            elif isinstance(decision, Retarget):
                decision = replace(decision, n_tokens=decision.n_tokens + given)
            if not isinstance(decision, Continue):
                decisions[row] = decision
        return decisions

    def _rests(self, decision: Decision) -> bool:
        """Whether a text takes no step after this decision."""
        if isinstance(decision, Retarget):
            return not decision.step and not self.recipe.parametrisation.shared
        return isinstance(decision, Stop)

    def _step(self, batch: Batch, parameters: dict[str, Tensor], resting: set[int]) -> None:
        """One optimiser step of all rows but those that rest."""
        rows, optimiser = batch.rows, self.recipe.optimiser
        for row, slot in enumerate(batch.slots):
            slot.step += row not in resting
            slot.clock += row not in resting
        moving = torch.ones_like(rows.step, dtype=torch.bool)
        for row in resting:
            moving[row] = False
        rows.step = rows.step + moving
        clocks = [max(1, slot.clock) for slot in batch.slots]
        for name, values in parameters.items():
            gradient = values.grad
            if gradient is None:  # a constant of the parametrisation
                continue
            if name in self.recipe.parametrisation.shared:
                gradient = group_mean(gradient, batch.slots, resting)
            trained = rows.parameters[name]
            before = tree_map(torch.clone, trained) if resting else trained
            optimiser.step(trained.value, gradient, trained.optimiser, clocks)
            if resting:
                rows.parameters[name] = where(moving, trained, before)
