"""Decode `[mem]` greedily and free-running, many chunks side by side, with a KV cache.

Exactness is decided here: a text counts as exact only if `greedy` returns it.

All chunks in a batch advance by one position per step. A chunk that is finished leaves the batch,
and a waiting chunk takes its row: the columns of the cache before its start are masked. Models
whose cache does not allow that decode one group of chunks after the other.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from memcram.models.caches import CachedLM, drop_columns, keep_rows, position_bytes

# Cached positions and bytes one batch may hold; a chunk longer than this is decoded alone.
_CPU_BATCH_TOKENS = 8192
_ACCELERATOR_BATCH_TOKENS = 65_536
_CACHE_BYTES = 512 * 2**20
_FRACTION_OF_FREE_MEMORY = 0.5  # of a CUDA device, in place of `_CACHE_BYTES`
# Rows are removed or added, and columns dropped, if they are at least this fraction of the cache,
# because each change copies it.
_WORTH_A_COPY = 1 / 8


@dataclass(frozen=True)
class Decoded:
    """Result of decoding one chunk.

    Attributes:
        ids: (n,) the tokens, with the replacements of `forced`.
        predicted: (n,) the argmax at each position, given the tokens of `ids` before it.
        margins: (n,) logit of `ids` minus the best other logit.
    """

    ids: Tensor
    predicted: Tensor
    margins: Tensor

    def after(self, n: int) -> "Decoded":
        """The same without the first `n` tokens."""
        return Decoded(self.ids[n:], self.predicted[n:], self.margins[n:])


def greedy(
    lm: CachedLM,
    mems: Sequence[Tensor],
    n_tokens: Sequence[int],
    forced: Sequence[Tensor] | None = None,
    batch_tokens: int | None = None,
    prefixes: Sequence[Tensor] | None = None,
) -> list[Decoded]:
    """Decode `n_tokens[i]` tokens from `mems[i]`, feeding back each decoded token.

    Args:
        lm: the model.
        mems: per chunk (K, input_width); K may differ between chunks.
        n_tokens: tokens per chunk.
        forced: per chunk (m,) ids that replace the predictions of its first m ≤ n tokens; −1 keeps
            a prediction.
        batch_tokens: cached positions per batch; None: as many as memory allows, up to a limit.
        prefixes: per chunk (p,) visible token ids that are fed before its tokens; not returned.
    """
    if prefixes is not None:
        pairs = zip(prefixes, forced or [one[:0] for one in prefixes], strict=True)
        forced = [torch.cat(pair) for pair in pairs]
        n_tokens = [n + len(one) for n, one in zip(n_tokens, prefixes, strict=True)]
    decoded = dict(stream(lm, mems, n_tokens, forced, batch_tokens))
    found = [decoded[i] for i in range(len(mems))]
    if prefixes is None:
        return found
    return [one.after(len(given)) for one, given in zip(found, prefixes, strict=True)]


def stream(
    lm: CachedLM,
    mems: Sequence[Tensor],
    n_tokens: Sequence[int],
    forced: Sequence[Tensor] | None = None,
    batch_tokens: int | None = None,
) -> Iterator[tuple[int, Decoded]]:
    """Decode as `greedy` does, and yield each chunk's index and result once it is finished."""
    tape = _Tape(lm, mems, n_tokens, forced)
    chunks = [i for i, n in enumerate(n_tokens) if n]
    budget = batch_tokens or _usual_tokens(lm, tape.longest * len(chunks))
    yield from ((i, tape.read(i)) for i, n in enumerate(n_tokens) if not n)
    kinds = {len(mems[i]) for i in chunks}
    fits_at_once = len(kinds) == 1 and tape.longest * len(chunks) <= budget
    refill = not fits_at_once and lm.takes_padding
    if not refill:  # longest first, so that a group's chunks end at about the same time
        chunks.sort(key=lambda i: (len(mems[i]), -n_tokens[i], i))
    waiting = deque(chunks)
    while waiting:
        batch = _Batch(lm, tape, _next_group(tape, waiting, budget, refill), budget)
        while batch.chunks:
            yield from ((i, tape.read(i)) for i in batch.step())
            batch.rearrange(waiting if refill else deque())


def _usual_tokens(lm: CachedLM, wanted: int) -> int:
    """Cached positions per batch, if the chunks want as many."""
    usual = _CPU_BATCH_TOKENS if lm.device.type == "cpu" else _ACCELERATOR_BATCH_TOKENS
    if wanted <= usual // 8:
        return usual
    allowed: float = _CACHE_BYTES
    if lm.device.type == "cuda":
        allowed = _FRACTION_OF_FREE_MEMORY * torch.cuda.mem_get_info(lm.device)[0]
    return min(usual, int(allowed / max(1, position_bytes(lm))))


class _Tape:
    """Inputs and outputs of all chunks, one position after the other.

    A chunk of n tokens takes `K + prefix + n − 1` positions; the last n of them predict its tokens.
    After all chunks comes one position that is written by empty rows and never read.
    """

    def __init__(
        self,
        lm: CachedLM,
        mems: Sequence[Tensor],
        n_tokens: Sequence[int],
        forced: Sequence[Tensor] | None,
    ) -> None:
        self._lm, self._mems, self._n_tokens = lm, mems, n_tokens
        self.given = [len(mem) + len(lm.prefix) for mem in mems]  # positions before the tokens
        self.lengths = [g + max(n, 1) - 1 for g, n in zip(self.given, n_tokens, strict=True)]
        self.longest = max(self.lengths, default=0)
        *self.starts, self.unread = accumulate(self.lengths, initial=0)
        force = torch.full((self.unread + 1,), -1, dtype=torch.long)
        for i, tokens in enumerate(forced or []):
            force[self._outputs(i)][: len(tokens)] = tokens
        self._force = force.to(lm.device)
        exact = torch.float64 if lm.dtype == torch.float64 else torch.float32
        self._ids = torch.empty_like(self._force)
        self._predicted = torch.empty_like(self._force)
        self._margins = torch.empty(self.unread + 1, dtype=exact, device=lm.device)

    def inputs(self, chunk: int, start: int, end: int) -> Tensor:
        """Vectors (position, input_width) of a chunk's given positions from `start` to `end`."""
        mem = self._mems[chunk].to(self._lm.device, self._lm.dtype)
        return torch.cat([mem, self._lm.prefix])[start:end]

    def write(self, at: Tensor, logits: Tensor) -> Tensor:
        """Note what logits (B, vocabulary) predict at positions `at` (B,); return the tokens."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        values, best = logits.topk(2, dim=-1)
        wanted = self._force[at]
        token = torch.where(wanted >= 0, wanted, best[:, 0])
        chosen = logits.gather(-1, token[:, None])[:, 0]
        other = torch.where(token == best[:, 0], values[:, 1], values[:, 0])
        self._ids[at], self._predicted[at], self._margins[at] = token, best[:, 0], chosen - other
        return token

    def read(self, chunk: int) -> Decoded:
        """Return the result of a finished chunk."""
        of = self._outputs(chunk)
        written = (self._ids, self._predicted, self._margins)
        return Decoded(*(one[of].cpu().clone() for one in written))

    def _outputs(self, chunk: int) -> slice:
        end = self.starts[chunk] + self.lengths[chunk]
        return slice(end - self._n_tokens[chunk], end)


def _next_group(tape: _Tape, waiting: deque[int], budget: int, refill: bool) -> list[int]:
    """Take as many waiting chunks as a batch may hold; of the same K if they can't be refilled."""
    group = [waiting.popleft()]
    longest = tape.lengths[group[0]]
    while waiting:
        longest = max(longest, tape.lengths[waiting[0]])
        other = not refill and tape.given[waiting[0]] != tape.given[group[0]]
        if other or longest * (len(group) + 1) > budget:
            break
        group.append(waiting.popleft())
    return group


class _Batch:
    """Chunks that are decoded side by side.

    Attributes:
        chunks: chunk by row; an empty row computes without being read.
    """

    def __init__(self, lm: CachedLM, tape: _Tape, chunks: Sequence[int], budget: int) -> None:
        self._lm, self._tape, self._budget = lm, tape, budget
        self.chunks = dict(enumerate(chunks))
        self._rows = len(chunks)
        # What all have is fed at once, the rest of longer ones with the first tokens of the others.
        given = min(tape.given[i] for i in chunks)
        self._embeds = torch.stack([tape.inputs(i, 0, given) for i in chunks])
        self._cache: Any = None
        self._columns = 0
        self._padded = False  # whether any row started later than others
        self._fed = dict.fromkeys(self.chunks, 0)  # positions by row
        # By row, on the device: first column of the cache, position on the tape, advance per step.
        self._first = torch.zeros(self._rows, dtype=torch.long, device=lm.device)
        starts = [tape.starts[i] + given - 1 for i in chunks]
        self._at = torch.tensor(starts, device=lm.device)
        self._live = torch.ones_like(self._first)

    def step(self) -> list[int]:
        """Advance all rows; return the chunks that are finished, whose rows are then empty."""
        tape, width = self._tape, self._embeds.shape[1]
        # Some models keep positions of earlier calls, so that one with padding is followed by more.
        self._padded |= any(fed != self._columns for fed in self._fed.values())
        first = self._first if self._padded else None
        logits, self._cache = self._lm.advance(self._embeds, self._cache, first)
        token = tape.write(self._at, logits)
        self._embeds = self._lm.embed(token[:, None])
        self._at += self._live
        self._columns += width
        done = []
        for row, chunk in self.chunks.items():
            self._fed[row] = fed = self._fed[row] + width
            if fed < tape.given[chunk]:
                self._embeds[row] = tape.inputs(chunk, fed, fed + 1)
            elif fed == tape.lengths[chunk]:
                done.append(row)
        if done:
            self._at[done], self._live[done] = tape.unread, 0
        # Empty rows stay where they are, so that they never run out of the model's positions.
        self._first += 1 - self._live
        finished = [self.chunks.pop(row) for row in done]
        for row in done:
            del self._fed[row]
        return finished

    def rearrange(self, waiting: deque[int]) -> None:
        """Give empty rows to waiting chunks; then change the size of the cache if that pays."""
        if not self.chunks:
            return
        self._seat(waiting)
        empty = self._rows - len(self.chunks)
        if empty >= _WORTH_A_COPY * self._rows:
            self._resize(0)
        elif waiting and not empty:
            added = min(self._allowed(waiting[0]) - self._rows, len(waiting))
            if added >= _WORTH_A_COPY * self._rows:
                self._resize(added)
                self._seat(waiting)
        unused = self._columns - max(self._fed.values())
        is_long = self._columns >= self._tape.longest
        if unused and (is_long or unused >= _WORTH_A_COPY * self._columns):
            drop_columns(self._cache, unused)
            self._columns -= unused
            self._first = (self._first - unused).clamp(min=0)

    def _allowed(self, chunk: int) -> int:
        """How many rows the cache may have with this chunk in it."""
        lengths = self._tape.lengths
        return self._budget // max(lengths[i] for i in (chunk, *self.chunks.values()))

    def _seat(self, waiting: deque[int]) -> None:
        """Let waiting chunks start in empty rows, in their order, while the cache allows it."""
        for row in range(self._rows):
            if not waiting or self._rows > self._allowed(waiting[0]):
                return
            if row not in self.chunks:
                chunk = waiting.popleft()
                self.chunks[row], self._fed[row] = chunk, 0
                self._embeds[row] = self._tape.inputs(chunk, 0, 1)
                self._first[row], self._at[row] = self._columns, self._tape.starts[chunk]
                self._live[row] = 1

    def _resize(self, added: int) -> None:
        """Remove all empty rows, and add other empty ones."""
        rows = sorted(self.chunks)
        kept = torch.tensor(rows + rows[:1] * added, device=self._at.device)
        if not keep_rows(self._cache, kept):
            return
        self.chunks = {new: self.chunks[old] for new, old in enumerate(rows)}
        self._fed = {new: self._fed[old] for new, old in enumerate(rows)}
        self._rows = len(kept)
        self._embeds, self._first = self._embeds[kept], self._first[kept]
        self._at, self._live = self._at[kept], self._live[kept]
        self._at[len(rows) :], self._live[len(rows) :] = self._tape.unread, 0
