"""Frozen language models: one loader, one face."""

from memcram.models.frozen_lm import FrozenLM, ModelIdentity
from memcram.models.loading import load_lm, load_tokenizer, model_shape, packaged_models

__all__ = [
    "FrozenLM",
    "ModelIdentity",
    "load_lm",
    "load_tokenizer",
    "model_shape",
    "packaged_models",
]
