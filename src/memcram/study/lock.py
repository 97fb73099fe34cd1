"""One `run` a store: a lock that the system lets go of when its process ends, however it ends."""

import os
from pathlib import Path
from types import TracebackType

from memcram.errors import UsageError


class StoreLock:
    """Holds a store for this process, as a context.

    The file stays, empty of meaning; only the lock on it counts, and a killed process holds none.

    Raises:
        UsageError: another process holds it (its pid is named), or the disk can't lock.
    """

    def __init__(self, path: Path, store: Path) -> None:
        self._path = path
        self._store = store
        self._handle: int | None = None

    def __enter__(self) -> "StoreLock":
        import fcntl

        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(
                f"STORE: {str(self._store)!r} can't be written ({error.strerror})"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 32).decode("ascii", "replace").strip()
            os.close(handle)
            if not isinstance(error, BlockingIOError):
                raise UsageError(
                    f"STORE: {str(self._store)!r} can't be locked ({error.strerror})"
                ) from error
            raise UsageError(
                f"STORE: {str(self._store)!r} is being run by process {holder or 'unknown'}; "
                "wait for it, or end it"
            ) from error
        self._handle = handle
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # on a full disk the lock holds all the same, only without a name
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
