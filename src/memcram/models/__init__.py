"""Load and wrap frozen language models."""

from memcram.models.frozen_lm import FrozenLM, ModelIdentity
from memcram.models.loading import load_lm, load_tokenizer, model_shape
from memcram.models.sources import packaged_models

__all__ = [
    "FrozenLM",
    "ModelIdentity",
    "load_lm",
    "load_tokenizer",
    "model_shape",
    "packaged_models",
]
