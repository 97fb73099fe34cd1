"""File formats of local models: how each is recognised, checked, loaded and fingerprinted.

A format is one file with a class that satisfies `ModelFormat`, and one row of `sources.FORMATS`.
"""

from pathlib import Path
from typing import Any, Protocol


class ModelFormat(Protocol):
    """One file format of local models."""

    def matches(self, path: Path) -> bool:
        """Whether a path is a model in this format, complete or not."""

    def check(self, path: Path, name: str, *, config_only: bool) -> None:
        """Refuse a model that is incomplete or that cannot be loaded as it is.

        Args:
            path: the model.
            name: what the user called it, for messages.
            config_only: the weights are not needed.

        Raises:
            ModelError: says what is missing and what to do.
        """

    def folder(self, path: Path) -> Path:
        """The folder that transformers loads from."""

    def options(self, path: Path) -> dict[str, Any]:
        """Keyword arguments of every `from_pretrained` call, besides the usual ones."""

    def fingerprint(self, path: Path, module: Any) -> str:
        """SHA-256 (hex) over what decides logits and tokens.

        Args:
            path: the model.
            module: the loaded module, for formats whose weights are converted on loading.
        """

    def earlier_fingerprint(self, path: Path) -> str | None:
        """Fingerprint by the rule of earlier versions; None where the rule has not changed."""
