"""Keep the finished chunks of a compression in progress, in the folder `NAME.partial/`."""

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

from memcram.archive.stored import Storage
from memcram.errors import UsageError
from memcram.files import TEMPORARY, check_creatable, locked, write_atomically
from memcram.quantisation import PRECISIONS

_JOB = "job.json"
_LOCK = "lock"
_PARTS = "chunks-*.safetensors"
_FLUSH_SECONDS = 1.0
_NAMES = list(PRECISIONS)
# Raised for a damaged file.
UNREADABLE = (
    safetensors.SafetensorError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    RuntimeError,
)


@dataclass(frozen=True)
class Chunk:
    """A finished chunk: `mem` (K, width) holds `n_tokens` of the text from token `start` on.

    `storage` is None if the vectors are stored in the model's dtype.
    """

    start: int
    n_tokens: int
    mem: Tensor
    storage: Storage | None = None


class PartialArchive:
    """Keeps finished chunks on disk until the archive is written.

    A chunk depends only on the job and on its first token, so every chunk found here can be used,
    and a missing or damaged one is crammed again. Only one process writes the folder: it holds the
    folder's lock from opening or creating it until `close`.

    Args:
        folder: `NAME.partial`; created when the first chunks are kept.
        job: everything the vectors depend on, as JSON values.
        force: drop the chunks of another job.

    Raises:
        UsageError: the folder can't be created, was not created by memcram, holds another job
            (without `force`), or is being written by another process.
    """

    def __init__(self, folder: Path, job: dict[str, Any], *, force: bool = False) -> None:
        self.folder = folder
        self.job: dict[str, Any] = json.loads(json.dumps(job))
        self._pending: list[Chunk] = []
        self._flushed = time.monotonic()
        self._hold: contextlib.ExitStack | None = None
        check_creatable(folder, argument="partial")
        if folder.is_dir():
            if not (folder / _JOB).is_file() and self._is_foreign():
                raise UsageError(f"{str(folder)!r} was not created by memcram; move it")
            self._take(force=force)
        elif folder.exists():
            raise UsageError(f"{str(folder)!r} is not a folder; move it")

    def load(self) -> list[Chunk]:
        """Finished chunks of an earlier run; damaged files are skipped."""
        chunks: list[Chunk] = []
        for path in sorted(self.folder.glob(_PARTS)):
            try:
                part = safetensors.torch.load(path.read_bytes())
                mems = part["vectors"].split(part["vectors_each"].tolist())
                columns = (part["starts"].tolist(), part["tokens"].tolist(), mems, _storages(part))
                chunks += [
                    Chunk(start, n, mem.clone(), storage)
                    for start, n, mem, storage in zip(*columns, strict=True)
                ]
            except UNREADABLE:
                continue
        return chunks

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk; `flush_if_due` writes it at most a second later."""
        self._pending.append(chunk)
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Write pending chunks, if the last write was a second or more ago."""
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write pending chunks.

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
        storages = [chunk.storage for chunk in chunks if chunk.storage is not None]
        if storages:
            names = [_NAMES.index(storage.precision) for storage in storages]
            part["precisions"] = torch.tensor(names)
            part["scales"] = torch.cat([storage.scales for storage in storages])
            part["shortened"] = torch.tensor([storage.shortened for storage in storages])
        path = self.folder / f"chunks-{min(chunk.start for chunk in chunks):09d}.safetensors"
        try:
            write_atomically(path, safetensors.torch.save(part))
        except UsageError as error:
            kept = f"chunks finished earlier are kept in {str(self.folder)!r}"
            raise UsageError(f"{error}; {kept}; run the command again to continue") from error
        self._pending = []
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Write pending chunks and release the folder."""
        try:
            self.flush()
        finally:
            self._release()

    def _make(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{str(self.folder)!r} could not be created ({error.strerror})"
            ) from error
        self._take(force=False)
        write_atomically(self.folder / _JOB, json.dumps(self.job, sort_keys=True).encode())

    def _take(self, *, force: bool) -> None:
        """Lock the folder; refuse the chunks of another job, or delete them."""
        self._release()  # the lock of a folder that was removed in the meantime
        with contextlib.ExitStack() as hold:
            hold.enter_context(locked(self.folder / _LOCK, repr(str(self.folder))))
            other = self._other_job()
            if other and not force:
                raise UsageError(
                    f"{str(self.folder)!r} holds an unfinished run with other settings ({other}); "
                    "run it with those settings",
                    force_to="delete it",
                )
            if other:
                for path in [*self.folder.glob(_PARTS), self.folder / _JOB]:
                    path.unlink(missing_ok=True)
            self._hold = hold.pop_all()

    def _release(self) -> None:
        if self._hold is not None:
            self._hold.close()
        self._hold = None

    def _is_foreign(self) -> bool:
        """Whether the folder has files that a run killed at its beginning would not leave."""
        own = (_LOCK, f"{TEMPORARY}*.tmp", f".{_JOB}.*.tmp")
        return not all(any(map(path.match, own)) for path in self.folder.iterdir())

    def _other_job(self) -> str | None:
        """Name the settings in which the folder's job differs from this one."""
        path = self.folder / _JOB
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return "unreadable"
        if not isinstance(found, dict):
            return "unreadable"
        before, now = _deciding(found), _deciding(self.job)
        names = sorted(set(before) | set(now))
        return ", ".join(n for n in names if before.get(n) != now.get(n)) or None


def _storages(part: dict[str, Tensor]) -> list[Storage] | list[None]:
    """Return the storage of each chunk of a file."""
    each = part["vectors_each"].tolist()
    if "scales" not in part:
        return [None] * len(each)
    names = [_NAMES[i] for i in part["precisions"].tolist()]
    columns = (names, part["scales"].split(each), part["shortened"].tolist())
    return [Storage(*row) for row in zip(*columns, strict=True)]


def _deciding(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job without the remark on the recipe's source, which determines no vector."""
    recipe = job.get("recipe")
    if not isinstance(recipe, dict):
        return job
    return job | {"recipe": {key: value for key, value in recipe.items() if key != "source"}}
