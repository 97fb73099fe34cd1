"""Read the vectors of a task as input vectors, or as positions of keys and values."""

from memcram.models.frozen_lm import FrozenLM
from memcram.models.prefix import PrefixLM


class Readers:
    """A model, and the same model after a prefix of each K that is asked for.

    Args:
        lm: the model.
    """

    def __init__(self, lm: FrozenLM) -> None:
        self._readers: dict[int, FrozenLM] = {0: lm}

    def of(self, kv_prefix: int) -> FrozenLM:
        """The model that reads K positions of keys and values; 0 for the model itself.

        Raises:
            ModelError: the model takes no such prefix.
        """
        if kv_prefix not in self._readers:
            self._readers[kv_prefix] = PrefixLM(self._readers[0], kv_prefix)
        return self._readers[kv_prefix]
