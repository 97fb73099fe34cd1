"""Keep the state of a study's unfinished texts on disk, so that an interrupted run loses nothing.

The file is written at Ctrl-C and once a minute, and deleted when no text is in progress. A killed
run loses a minute. Texts that share parameters are not kept: they start again. A file whose
checksum does not match, or of another version of memcram, is ignored.
"""

import contextlib
import hashlib
import time
from collections.abc import Container, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from memcram.engine.checkpoint import Checkpoint
from memcram.engine.loop import Engine
from memcram.files import write_atomically
from memcram.study.clock import Clock

_FILE = "in-progress.safetensors"
_COPY_SECONDS, _WRITE_SECONDS = 1.0, 60.0
_COPY_SHARE = 0.02  # of the time, at most: the vectors of a large batch take long to copy
_CLOCK = "clock"
_CHECKSUM = "sha256"
_UNREADABLE = (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError)


class Copies:
    """Copies of the state of texts in progress.

    Args:
        texts: states to continue from, by task.
    """

    def __init__(self, texts: Mapping[str, Checkpoint]) -> None:
        self.texts = {task: dict(text) for task, text in texts.items()}
        self._copied = self._passed_on = time.monotonic()
        self._wait = _COPY_SECONDS

    def of(self, tasks: Iterable[str], clock: Clock) -> dict[str, Checkpoint]:
        """Return the checkpoints of these tasks, and set the clock to the time that they took."""
        found: dict[str, Checkpoint] = {}
        for task in tasks:
            if task in self.texts:
                found[task] = self.texts[task]
                clock.restore(found[task][_CLOCK].tolist())
        return found

    def copy_if_due(self, engine: Engine, tasks: Container[str], clock: Clock) -> bool:
        """Copy the state of texts in progress about once a second.

        Args:
            engine: is running, between two turns.
            tasks: those that are wanted; others of their groups are not kept.
            clock: of the run.

        Returns:
            Whether the copies should be written to disk: once a minute.
        """
        now = time.monotonic()
        if now - self._copied < self._wait:
            return False
        counters = clock.counters()
        for key, text in engine.checkpoints().items():
            if str(key) in tasks:
                self.texts[str(key)] = text | {_CLOCK: counters.clone()}
        self._copied = time.monotonic()
        self._wait = max(_COPY_SECONDS, (self._copied - now) / _COPY_SHARE)
        is_due = now - self._passed_on >= _WRITE_SECONDS
        if is_due:
            self._passed_on = time.monotonic()
        return is_due

    def drop(self, tasks: Iterable[str]) -> None:
        """Forget tasks that have a row now, or failed."""
        for task in tasks:
            self.texts.pop(task, None)


class InProgress:
    """The file with the state of the texts in progress, by task.

    Args:
        folder: of the store; its file is read if there is one, and ignored if it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._texts = _read(self._path)

    @property
    def count(self) -> int:
        """Number of texts in progress."""
        return len(self._texts)

    def of(self, tasks: Iterable[str]) -> dict[str, Checkpoint]:
        """Return the checkpoints of these tasks; some have none."""
        return {task: self._texts[task] for task in tasks if task in self._texts}

    def update(self, texts: Mapping[str, dict[str, Tensor]]) -> None:
        """Write new copies of some tasks.

        Raises:
            UsageError: the disk is full.
        """
        self._texts.update(texts)
        self.write()

    def drop(self, tasks: Iterable[str]) -> None:
        """Forget tasks that have a row now, or failed."""
        for task in tasks:
            self._texts.pop(task, None)

    def keep(self, tasks: Container[str]) -> None:
        """Forget all other tasks."""
        self._texts = {task: text for task, text in self._texts.items() if task in tasks}

    def write(self) -> None:
        """Write the last copies, or delete the file if no text is in progress.

        Raises:
            UsageError: the disk is full.
        """
        if not self._texts:
            self._path.unlink(missing_ok=True)
            return
        texts = self._texts.items()
        tensors = {f"{task}/{name}": t for task, text in texts for name, t in text.items()}
        tensors[_CHECKSUM] = _checksum(tensors)
        write_atomically(self._path, safetensors.torch.save(tensors))


def _read(path: Path) -> dict[str, dict[str, Tensor]]:
    texts: dict[str, dict[str, Tensor]] = {}
    with contextlib.suppress(*_UNREADABLE):
        tensors = safetensors.torch.load(path.read_bytes())
        if not torch.equal(tensors.pop(_CHECKSUM), _checksum(tensors)):
            return {}
        for name, tensor in tensors.items():
            task, _, part = name.partition("/")
            texts.setdefault(task, {})[part] = tensor
    return {task: text for task, text in texts.items() if _is_clock(text.get(_CLOCK))}


def _is_clock(counters: Tensor | None) -> bool:
    if counters is None or counters.shape != (4,) or counters.dtype != torch.float64:
        return False
    return bool((counters.isfinite() & (counters >= 0)).all())


def _checksum(tensors: Mapping[str, Tensor]) -> Tensor:
    """Hash (SHA-256) the version of memcram, and names, dtypes, shapes and bytes; (32,) uint8."""
    digest = hashlib.sha256(f"memcram {version('memcram')}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
