"""Interface of a file format of local models: recognise, check, load and fingerprint it.

A format is one file with a class that satisfies `ModelFormat`, and one row of `sources.FORMATS`.
A class that inherits from it may omit the methods that have a default.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class ModelFormat(Protocol):
    """A file format of local models."""

    def matches(self, path: Path) -> bool:
        """Whether a path is a model in this format, complete or not."""

    def with_config(self, path: Path, config: Path) -> "ModelFormat":
        """The same format with a folder whose config.json replaces the converted config.

        Args:
            path: the model.
            config: the folder.

        Raises:
            UsageError: the folder has no config.json, or the format converts no config.
        """

    def check(self, path: Path, name: str, *, config_only: bool) -> None:
        """Refuse a model that is incomplete or cannot be loaded.

        Args:
            path: the model.
            name: the user's name for it, for messages.
            config_only: the weights are not needed.

        Raises:
            ModelError: says what is missing and what to do.
        """

    def folder(self, path: Path) -> Path:
        """The folder that transformers loads from: by default the model itself."""
        return path

    def options(self, path: Path) -> dict[str, Any]:
        """Return additional keyword arguments of every `from_pretrained` call."""
        return {}

    def converted(self, path: Path) -> Path | None:
        """Folder for config and tokenizer if they are converted on loading, which takes long.

        It may not exist yet; `keep_converted` fills it. None: nothing is converted.
        """
        return None

    def original_config(self, path: Path) -> Path | None:
        """Folder of a config.json that replaces the converted config, or None."""
        return None

    def keep_converted(self, path: Path, config: Any, tokenizer: Any) -> None:
        """Check a converted config and fill the folder `converted`, if it can be written.

        Raises:
            ModelError: the conversion lost something that decides logits.
        """
        return

    def check_loaded(self, path: Path, module: Any) -> None:
        """Refuse a whole module that lacks some of the model's weights.

        Raises:
            ModelError: says what is missing.
        """
        return

    def fingerprint(self, path: Path, load: Callable[[], Any]) -> str:
        """Hash (SHA-256, hex) everything that determines logits and tokens.

        Args:
            path: the model.
            load: returns the whole module in float32, for formats whose weights are converted on
                loading.
        """

    def earlier_fingerprint(self, path: Path) -> str | None:
        """Fingerprint by the rule of earlier versions; None where the rule has not changed."""
        return None
