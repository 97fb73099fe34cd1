"""One process a folder: a lock that the system lets go of when its process ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from memcram.errors import UsageError


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold something for this process.

    Only the lock on the file counts, not the file: a killed process holds none.

    Args:
        path: of the lock file.
        what: is held, as errors call it.

    Raises:
        UsageError: another process holds it (its pid is named), or the disk can't lock.
    """
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(f"{what} can't be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                f"{what} is being written by process {holder}; wait for it, or end it"
            ) from error
        except OSError as error:
            raise UsageError(f"{what} can't be locked ({error.strerror})") from error
        with contextlib.suppress(OSError):  # on a full disk the lock holds without a name too
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
