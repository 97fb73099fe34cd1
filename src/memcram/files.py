"""Whole files or none: write to a temporary neighbour, flush to disk, rename."""

import os
import tempfile
from pathlib import Path

from memcram.errors import UsageError


def check_writable(path: Path, *, force: bool, argument: str = "-o") -> None:
    """Refuse an output path before any work is done for it.

    Raises:
        UsageError: the folder is missing, the path is a folder, or the file exists without `force`.
    """
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(
            f"{argument}: {str(path)!r} can't be written ({error.strerror})"
        ) from error
    if not path.parent.is_dir():
        raise UsageError(f"{argument}: the folder {str(path.parent)!r} does not exist")
    if path.is_dir():
        raise UsageError(f"{argument}: {str(path)!r} is a folder; name a file")
    if path.exists() and not path.is_file():
        raise UsageError(f"{argument}: {str(path)!r} is no regular file")
    if path.exists() and not force:
        raise UsageError(f"{argument}: {str(path)!r} exists; pass --force to replace it")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{argument}: the folder {str(path.parent)!r} is not writable")


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` (bytes) under `path`, so that a reader sees the old file or the whole new one.

    Raises:
        UsageError: the disk is full or the folder can't be written; nothing is left behind.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
        )
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mode = 0o666 & ~_umask()
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(
            f"{str(path)!r} could not be written ({reason}); nothing was left"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _umask() -> int:
    # The only portable way to read the mask is to set it; restored at once.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
