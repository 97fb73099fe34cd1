"""The archive: one safetensors file that holds a text as vectors."""

from memcram.archive.format import Archive
from memcram.archive.manifest import Manifest

__all__ = ["Archive", "Manifest"]
