"""The ready archives that are packaged with memcram, and their texts."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files

_FOLDER = files("memcram") / "data" / "gallery"


@dataclass(frozen=True)
class Entry:
    """One text of the gallery.

    Attributes:
        name: of its files.
        title: what a page calls it.
        source: author, work and year.
        model: the name of the model that its archive needs.
    """

    name: str
    title: str
    source: str
    model: str

    @property
    def text(self) -> str:
        """The text itself."""
        return (_FOLDER / f"{self.name}.txt").read_text("utf-8")

    @property
    def archive(self) -> bytes:
        """Content of its archive."""
        return (_FOLDER / f"{self.name}.mem.safetensors").read_bytes()


def entries() -> list[Entry]:
    """Return all texts of the gallery, in the order in which they are shown."""
    table = tomllib.loads((_FOLDER / "gallery.toml").read_text("utf-8"))
    return [Entry(**row) for row in table["text"]]
