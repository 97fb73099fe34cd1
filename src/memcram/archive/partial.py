"""`NAME.partial/`: the finished chunks of a compression that has not ended yet."""

import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memcram.errors import UsageError
from memcram.files import locked, write_atomically

_JOB = "job.json"
_LOCK = "lock"
_PARTS = "chunks-*.safetensors"
_FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: `n_tokens` of the text from token `start` on, held by `mem` (K, width)."""

    start: int
    n_tokens: int
    mem: Tensor


class PartialArchive:
    """Keeps finished chunks safe on disk until the archive is written.

    A chunk depends on the job and its place alone, so whatever is found here can be used, and
    whatever is missing or damaged is simply crammed again. One process writes the folder: it holds
    it from when it finds or makes it until `close`.

    Args:
        folder: `NAME.partial`; made when the first chunks are kept.
        job: everything the vectors depend on, as JSON values.
        force: drop what another job left in the folder.

    Raises:
        UsageError: the folder holds another job, and `force` is off; or another process writes it.
    """

    def __init__(self, folder: Path, job: dict[str, Any], *, force: bool = False) -> None:
        self.folder = folder
        self.job: dict[str, Any] = json.loads(json.dumps(job))
        self._pending: list[Chunk] = []
        self._flushed = time.monotonic()
        self._hold: contextlib.ExitStack | None = None
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is in the way of the unfinished chunks; move it")
        if folder.is_dir() and not (folder / _JOB).is_file() and self._is_foreign():
            raise UsageError(
                f"{str(folder)!r} is in the way of the unfinished chunks and not memcram's; move it"
            )
        if folder.is_dir():
            self._take(force=force)

    def load(self) -> list[Chunk]:
        """Finished chunks of an earlier run; damaged files are passed over."""
        chunks: list[Chunk] = []
        for path in sorted(self.folder.glob(_PARTS)):
            try:
                part = safetensors.torch.load(path.read_bytes())
                mems = part["vectors"].split(part["vectors_each"].tolist())
                places = zip(part["starts"].tolist(), part["tokens"].tolist(), mems, strict=True)
                chunks += [Chunk(start, n, mem.clone()) for start, n, mem in places]
            except (safetensors.SafetensorError, OSError, KeyError, ValueError, RuntimeError):
                continue
        return chunks

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk; it is on disk at the first `flush_if_due` a second later."""
        self._pending.append(chunk)
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Write what is pending, a second after the last time or later."""
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending.

        Raises:
            UsageError: the disk is full or the folder can't be written.
        """
        if not self._pending:
            return
        if self._hold is None or not (self.folder / _JOB).exists():
            self._make()
        chunks = self._pending
        part = {
            "starts": torch.tensor([chunk.start for chunk in chunks]),
            "tokens": torch.tensor([chunk.n_tokens for chunk in chunks]),
            "vectors_each": torch.tensor([len(chunk.mem) for chunk in chunks]),
            "vectors": torch.cat([chunk.mem for chunk in chunks]),
        }
        path = self.folder / f"chunks-{min(chunk.start for chunk in chunks):09d}.safetensors"
        try:
            write_atomically(path, safetensors.torch.save(part))
        except UsageError as error:
            raise UsageError(
                f"{error} of it, and chunks finished earlier are kept in {str(self.folder)!r}; "
                "run it again to go on"
            ) from error
        self._pending = []
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is pending, and let go of the folder."""
        try:
            self.flush()
        finally:
            self._let_go()

    def _make(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{str(self.folder)!r} could not be made ({error.strerror})"
            ) from error
        self._take(force=False)
        write_atomically(self.folder / _JOB, json.dumps(self.job, sort_keys=True).encode())

    def _take(self, *, force: bool) -> None:
        """Hold the folder; refuse it with the chunks of another job, or drop them."""
        self._let_go()  # of one that was removed meanwhile
        with contextlib.ExitStack() as hold:
            hold.enter_context(locked(self.folder / _LOCK, repr(str(self.folder))))
            other = self._other_job()
            if other and not force:
                raise UsageError(
                    f"{str(self.folder)!r} holds an unfinished run with other settings ({other}); "
                    "run it again with those",
                    force_to="drop it",
                )
            if other:
                for path in [*self.folder.glob(_PARTS), self.folder / _JOB]:
                    path.unlink(missing_ok=True)
            self._hold = hold.pop_all()

    def _let_go(self) -> None:
        if self._hold is not None:
            self._hold.close()
        self._hold = None

    def _is_foreign(self) -> bool:
        """Whether anything is here but what a run killed at its very start leaves behind."""
        own = (_LOCK, f".{_JOB}.*.tmp")
        return not all(any(map(path.match, own)) for path in self.folder.iterdir())

    def _other_job(self) -> str | None:
        """The settings in which the folder's job differs from this one."""
        path = self.folder / _JOB
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return "unreadable"
        if not isinstance(found, dict):
            return "unreadable"
        names = sorted(set(found) | set(self.job))
        return ", ".join(n for n in names if found.get(n) != self.job.get(n)) or None
