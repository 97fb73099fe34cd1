"""Sources of the texts that studies and `memcram horizon` measure."""

from memcram.texts.files import sample_files
from memcram.texts.sample import TextSample, TextSource
from memcram.texts.sources import SOURCES, make_source

__all__ = ["SOURCES", "TextSample", "TextSource", "make_source", "sample_files"]
