"""Atomic writes and file locks."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from memcram.errors import MemcramError, TextError, UsageError

ARCHIVE_SUFFIX = ".mem.safetensors"
_LOCK_SECONDS = 0.5  # to wait for `is_locked`, which holds the lock for a moment
TEMPORARY = ".memcram."  # how the names of temporary files begin


@contextlib.contextmanager
def reading(
    path: Path, argument: str = "path", error: type[MemcramError] = TextError
) -> Iterator[None]:
    """Context manager around the reading of a file.

    Args:
        path: the file.
        argument: what errors call it.
        error: their class.

    Raises:
        TextError: it can't be read or is not UTF-8, or the other class given.
    """
    try:
        yield
    except OSError as cause:
        raise error(f"{str(path)!r} can't be read ({cause.strerror})", argument=argument) from cause
    except UnicodeDecodeError as cause:
        problem = f"{str(path)!r} is not UTF-8 (byte {cause.start})"
        raise error(problem, argument=argument) from cause


@contextlib.contextmanager
def new_folder(
    folder: Path, argument: str | None = "output", *, replace: bool = False
) -> Iterator[Path]:
    """Context manager that creates a folder, completely or not at all.

    Yields an empty temporary folder next to it, which takes its name at the end.

    Args:
        folder: what to create; an empty folder of that name is replaced.
        argument: what errors call it.
        replace: replace a folder that is not empty too.

    Raises:
        UsageError: it can't be written; an existing folder is unchanged.
    """
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, suffix=".tmp", dir=folder.parent))
        temporary.chmod(0o755)
        yield temporary
        if replace and folder.exists():
            _swap(temporary, folder)
        else:
            if folder.exists():
                folder.rmdir()
            temporary.replace(folder)
        temporary = None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = f"{str(folder)!r} could not be written ({reason})"
        raise UsageError(problem, argument=argument) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, folder: Path) -> None:
    """Replace a folder by another one; on an error it is unchanged."""
    with tempfile.TemporaryDirectory(
        prefix=TEMPORARY, suffix=".tmp", dir=folder.parent, ignore_cleanup_errors=True
    ) as place:
        old = Path(place) / "old"
        folder.replace(old)
        try:
            new.replace(folder)
        except OSError:
            old.replace(folder)
            raise


def check_creatable(path: Path, argument: str = "output") -> None:
    """Refuse a path that can't be created, before any work is done for it; it may exist.

    Args:
        path: a future file or folder.
        argument: its name in errors.

    Raises:
        UsageError: its name is too long, or its folder is missing or read-only.
    """
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        reason = f"{str(path)!r} can't be written ({error.strerror})"
        raise UsageError(reason, argument=argument) from error
    folder = str(path.parent)
    if not path.parent.is_dir():
        raise UsageError(f"the folder {folder!r} does not exist", argument=argument)
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the folder {folder!r} is not writable", argument=argument)


def holds_files(folder: Path, argument: str = "output") -> bool:
    """Check an output folder before any work is done for it.

    Returns:
        Whether it exists and is not empty.

    Raises:
        UsageError: it can't be created, or is not a folder.
    """
    check_creatable(folder, argument)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{str(folder)!r} is not a folder", argument=argument)
    return folder.is_dir() and any(folder.iterdir())


def is_file(path: Path) -> bool:
    """Whether a path is a file; False where no file can have the name, as when it is too long."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False as in `is_file`."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def contents(folder: Path) -> tuple[int, int]:
    """Count the files in a folder and its subfolders, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def check_writable(path: Path, *, force: bool, argument: str = "output") -> None:
    """Refuse an output file before any work is done for it.

    Args:
        path: the future file.
        force: allow that the file exists.
        argument: its name in errors.

    Raises:
        UsageError: it can't be created, is a folder, or exists without `force`.
    """
    check_creatable(path, argument)
    if path.is_dir():
        raise UsageError(f"{str(path)!r} is a folder; name a file", argument=argument)
    if path.exists() and not path.is_file():
        raise UsageError(f"{str(path)!r} is not a regular file", argument=argument)
    if path.exists() and not force:
        raise UsageError(f"{str(path)!r} exists", argument=argument, force_to="replace it")


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Context manager holding an advisory lock, released when its process exits.

    Args:
        path: the lock file; it stays on disk, only the lock on it counts.
        what: name of what is locked, for errors.

    Raises:
        UsageError: another process holds the lock (its pid is named), or the file can't be locked.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise UsageError(
            f"{what} is being written by process {_read_pid(path)}; wait for it, or end it"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{what} can't be locked ({reason})") from error
    try:
        with contextlib.suppress(OSError):  # a full disk; the lock holds without the pid too
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock; True where that can't be found out."""
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True


def _read_pid(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip() or "unknown"
    except OSError:  # Windows locks the content too
        return "unknown"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees either the old file or the whole new one.

    Raises:
        UsageError: the disk is full or the folder can't be written; no partial file remains.
    """
    temporary: str | None = None
    try:
        # Without the target's own name, which may leave no room for more.
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=".tmp", dir=path.parent)
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
        raise UsageError(f"{str(path)!r} could not be written ({reason})") from error
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
