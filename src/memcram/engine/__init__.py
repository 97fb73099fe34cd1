"""The engine: optimise many texts in one batch."""

from memcram.engine.batch import CramRequest
from memcram.engine.loop import Engine, EngineStatus
from memcram.engine.result import Crammed

__all__ = ["CramRequest", "Crammed", "Engine", "EngineStatus"]
