"""The JSON file of a run: finished bouts are found again by everything they depend on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from memcram.errors import UsageError
from memcram.files import check_writable, write_atomically

_VERSION = 1


class Store:
    """Bouts on disk, written whole after each.

    A bout has a place (role, recipe, K) and a digest of what it depends on. One that was measured
    under the same digest is not run again; one under another is replaced.

    Args:
        path: the file, None to keep nothing.

    Raises:
        UsageError: the file can't be written, or is none of ours.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.report: dict[str, Any] = {"version": _VERSION, "bouts": []}
        if path is None:
            return
        check_writable(path, force=True)
        if path.exists():
            try:
                self.report = json.loads(path.read_text("utf-8"))
            except ValueError as error:
                raise UsageError(f"-o: {str(path)!r} is no JSON ({error})") from error
            if self.report.get("version") != _VERSION or "bouts" not in self.report:
                raise UsageError(f"-o: {str(path)!r} is no report of the arena; name another file")

    def find(self, role: str, digest: str) -> dict[str, Any] | None:
        """The bout that was measured under `digest`."""
        for bout in self.report["bouts"]:
            if bout["role"] == role and bout["digest"] == digest:
                return dict(bout)
        return None

    def put(self, bout: dict[str, Any]) -> None:
        """Keep a finished bout, in the place of one of the same role, recipe and K."""
        place = _place(bout)
        bouts = [old for old in self.report["bouts"] if _place(old) != place]
        self.report["bouts"] = [*bouts, bout]
        self.save()

    def save(self, **parts: Any) -> None:
        """Write the file, with other parts of the report."""
        self.report |= parts
        if self.path is not None:
            write_atomically(self.path, (json.dumps(self.report, indent=1) + "\n").encode())


def digest(parts: dict[str, Any]) -> str:
    """SHA-256 over what a bout depends on, as sorted JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _place(bout: dict[str, Any]) -> tuple[Any, ...]:
    return bout["role"], bout["recipe"], bout["vectors"]
