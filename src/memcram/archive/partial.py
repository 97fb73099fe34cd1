"""`NAME.partial/`: the finished chunks of a compression that has not ended yet."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from memcram.archive.chunking import Chunk
from memcram.errors import UsageError
from memcram.files import write_atomically

_JOB = "job.json"
_PARTS = "chunks-*.safetensors"
_FLUSH_SECONDS = 1.0


class PartialArchive:
    """Keeps finished chunks safe on disk until the archive is written.

    A chunk depends on the job and its place alone, so whatever is found here can be used, and
    whatever is missing or damaged is simply crammed again.

    Args:
        folder: `NAME.partial`; made when the first chunks are kept.
        job: everything the vectors depend on, as JSON values.
        force: drop what another job left in the folder.

    Raises:
        UsageError: the folder holds another job, and `force` is off.
    """

    def __init__(self, folder: Path, job: dict[str, Any], *, force: bool = False) -> None:
        self.folder = folder
        self.job: dict[str, Any] = json.loads(json.dumps(job))
        self._pending: list[Chunk] = []
        self._flushed = time.monotonic()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is in the way of the unfinished chunks; move it")
        if folder.is_dir() and not (folder / _JOB).is_file() and self._is_foreign():
            raise UsageError(
                f"{str(folder)!r} is in the way of the unfinished chunks and not memcram's; move it"
            )
        other = self._other_job()
        if other and not force:
            raise UsageError(
                f"{str(folder)!r} holds an unfinished run with other settings ({other}); run it "
                "again with those, or pass --force to drop it"
            )
        if other:
            self.remove()

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
        """Keep a chunk; it is on disk a second later at most."""
        self._pending.append(chunk)
        if time.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is pending.

        Raises:
            UsageError: the disk is full or the folder can't be written.
        """
        if not self._pending:
            return
        if not (self.folder / _JOB).exists():
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

    def remove(self) -> None:
        """Drop the folder, once the archive is safe."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{str(self.folder)!r} could not be made ({error.strerror})"
            ) from error
        write_atomically(self.folder / _JOB, json.dumps(self.job, sort_keys=True).encode())

    def _is_foreign(self) -> bool:
        """Whether anything is here but what a run killed at its very start leaves behind."""
        return not all(path.match(f".{_JOB}.*.tmp") for path in self.folder.iterdir())

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
