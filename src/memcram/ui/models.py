"""The models that a page offers: those that were named when it was started."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from memcram.archive import Archive
from memcram.errors import ArchiveError, UsageError
from memcram.models import FrozenLM, load_lm
from memcram.models.sources import find_model, local_source

_LOADED = 3  # models that stay in memory
_Key = tuple[str, str, str]  # label, dtype, layout


class Models:
    """Models by label, loaded when they are first used.

    A visitor chooses a label and never types a name: a name can be any path of this machine, or a
    model to download.

    Args:
        names: packaged names, folders, GGUF files, or hub ids, which are downloaded now.
        device: as for `load_lm`.

    Raises:
        ModelError: one of them is not available.
    """

    def __init__(self, names: Sequence[str], device: str | None = None) -> None:
        for name in names:
            find_model(name)
        self._device = device
        self._names = _labelled(list(dict.fromkeys(names)))
        self._loaded: OrderedDict[_Key, FrozenLM] = OrderedDict()
        self._loading: defaultdict[_Key, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    @property
    def labels(self) -> list[str]:
        """What a page calls the models."""
        return list(self._names)

    def load(self, label: str, dtype: Any = "float32", layout: Any = "mem") -> FrozenLM:
        """Return a model, loading it unless it is in memory.

        Raises:
            UsageError: no model has that label.
            ModelError: it can't be loaded.
        """
        if label not in self._names:
            raise UsageError(argument="model", got=label, allowed=", ".join(self._names))
        key = label, dtype, layout
        with self._lock:
            loading = self._loading[key]
        with loading:  # a second page waits, instead of loading the model a second time
            lm = self._loaded.get(key)
            if lm is None:
                name = self._names[label]
                lm = load_lm(name, device=self._device, dtype=dtype, layout=layout)
            with self._lock:
                self._loaded[key] = lm
                self._loaded.move_to_end(key)
                while len(self._loaded) > _LOADED:
                    self._loaded.popitem(last=False)
            return lm

    def load_for(self, archive: Archive) -> FrozenLM:
        """Return the model that an archive names.

        Raises:
            ArchiveError: it is not among the models.
        """
        made = archive.manifest
        label = self._label_of(made.model.id)
        if label is None:
            problem = (
                f"needs the model {made.model.id!r}; start this page again with that folder, file "
                "or hub id"
            )
            raise ArchiveError(problem, argument="archive")
        return self.load(label, made.dtype, made.layout)

    def _label_of(self, name: str) -> str | None:
        by_name = {known: label for label, known in self._names.items()}
        by_file = {PurePath(known).name: label for known, label in by_name.items()}
        return by_name.get(name) or by_file.get(PurePath(name).name)


def _labelled(names: list[str]) -> dict[str, str]:
    """Names by label: the last part of a local path, unless two have the same."""
    short = [name if local_source(name) is None else PurePath(name).name for name in names]
    return {
        label if short.count(label) == 1 else name: name
        for label, name in zip(short, names, strict=True)
    }
