"""Sources of texts to measure with."""

from memcram.texts.files import sample_files
from memcram.texts.sample import TextSample

__all__ = ["TextSample", "sample_files"]
