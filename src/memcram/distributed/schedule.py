"""Divide work among workers, and count how often it was lost with one of them."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from memcram.errors import ModelError

# A batch keeps an engine busy if it has about as many texts as the engine works on at once; fewer
# are given out only where there is less than that for each worker.
_MIN_BATCH = 16
# Losses of a worker that finished nothing of its batch, after which the batch is not tried again.
_MAX_LOSSES = 3


@dataclass(frozen=True)
class Item:
    """A piece of work.

    Attributes:
        key: names it.
        cost: how long it takes, in any unit.
        lot: only items of the same lot share a batch.
        unit: items of the same unit are never separated; None: this one is on its own.
    """

    key: Hashable
    cost: float
    lot: Hashable = None
    unit: Hashable | None = None


@dataclass
class _Given:
    """The batch of one worker: what is left of it, and whether any of it was finished."""

    left: dict[Hashable, Item]
    advanced: bool = False


@dataclass
class Schedule:
    """Work that is waiting or given to a worker.

    Batches get smaller towards the end, so that the workers finish at about the same time: each is
    half of a worker's share of what is waiting.

    Args:
        items: all work; the most expensive of each lot is given out first.
        workers: how many share it.
    """

    items: Sequence[Item]
    workers: int
    _waiting: list[Item] = field(init=False)
    _given: dict[int, _Given] = field(init=False, default_factory=dict)
    _losses: dict[Hashable, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Order the items."""
        lots = {lot: i for i, lot in enumerate(dict.fromkeys(item.lot for item in self.items))}
        self._waiting = sorted(self.items, key=lambda item: (lots[item.lot], -item.cost))

    @property
    def is_finished(self) -> bool:
        """Whether nothing is waiting or given out."""
        return not self._waiting and not any(given.left for given in self._given.values())

    def take(self, worker: int) -> list[Item]:
        """Give a worker its next batch; empty if nothing is waiting."""
        if not self._waiting:
            return []
        fair = sum(item.cost for item in self._waiting) / (2 * self.workers)
        least = min(_MIN_BATCH, -(-len(self._waiting) // self.workers))
        lot = self._waiting[0].lot
        batch: dict[Hashable, Item] = {}
        cost = 0.0
        for item in self._waiting:
            if item.lot != lot or (len(batch) >= least and cost >= fair):
                break
            if item.key not in batch:
                for one in self._unit(item):
                    batch[one.key] = one
                    cost += one.cost
        self._waiting = [item for item in self._waiting if item.key not in batch]
        self._given[worker] = _Given(batch)
        return list(batch.values())

    def finish(self, worker: int, keys: Iterable[Hashable]) -> None:
        """Record that a worker finished some of its batch."""
        given = self._given[worker]
        for key in keys:
            given.advanced |= given.left.pop(key, None) is not None

    def give_back(self, worker: int) -> None:
        """Put what a worker has not finished back, because the worker was lost.

        Raises:
            ModelError: the same work was lost too often, with nothing finished in between.
        """
        given = self._given.pop(worker, None)
        if given is None or not given.left:
            return
        self._waiting[:0] = given.left.values()
        if given.advanced:
            return
        for key in given.left:
            self._losses[key] = self._losses.get(key, 0) + 1
            if self._losses[key] >= _MAX_LOSSES:
                raise ModelError(
                    f"{_MAX_LOSSES} workers were lost with the same work; is their memory "
                    "sufficient?"
                )

    def _unit(self, item: Item) -> list[Item]:
        if item.unit is None:
            return [item]
        return [one for one in self._waiting if (one.lot, one.unit) == (item.lot, item.unit)]
