"""Read the metadata of GGUF files, and detect what transformers would drop.

transformers loads a GGUF file by rebuilding a config and a tokenizer from the file's metadata. It
silently drops settings that it does not know, above all rope scaling, which changes every logit.
The metadata is therefore read here first, and a file with such settings is refused unless the
original config comes with it.
"""

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memcram.errors import ModelError

_MAGIC = b"GGUF"

# Settings that transformers does not read, and the config attributes they must agree with: where
# they do, dropping them changes nothing.
_IMPLIED = {
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("v_head_dim", "head_dim"),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "attention.sliding_window": ("sliding_window",),
    "vocab_size": ("vocab_size",),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "logit_scale": ("logit_scale",),
    "embedding_scale": ("embedding_multiplier",),
    "residual_scale": ("residual_multiplier",),
    "attention.scale": ("attention_multiplier",),
}
# Settings that decide no logit.
_INCIDENTAL = {"tensor_data_layout", "rope.dimension_count", "expert_gating_func"}
_ROPE_FREQUENCIES = "rope_freqs."
_MAX_ENTRIES = 1024


@dataclass(frozen=True)
class GgufFile:
    """The metadata of a GGUF file.

    Attributes:
        path: path of the file.
        architecture: llama.cpp's name of the model type.
        settings: values by key, without the architecture's prefix.
        tokenizer: values of `tokenizer.ggml.*` except the vocabulary, without the prefix.
        tensors: names of the tensors.
        elements: total number of elements, except in the rotary frequencies.
        quantisations: number of tensors by storage type, such as Q4_1.
    """

    path: Path
    architecture: str
    settings: dict[str, Any]
    tokenizer: dict[str, Any]
    tensors: tuple[str, ...]
    elements: int
    quantisations: dict[str, int]

    @functools.cached_property
    def rope_scaling(self) -> list[str]:
        """List keys and tensors that rescale rotary positions; transformers drops all of them."""
        keys = [key for key in self.settings if ".scaling." in f".{key}" and key.startswith("rope")]
        if self.settings.get("rope.scaling.type") == "none":
            keys = []
        return keys + [name for name in self.tensors if name.startswith(_ROPE_FREQUENCIES)]


def check_installed() -> None:
    """Refuse GGUF files if the packages that read them are not installed.

    Raises:
        ModelError: names the extra to install.
    """
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "GGUF files need the extra 'gguf'; install it with pip install 'memcram[gguf]'"
        ) from error


def read_gguf(path: Path) -> GgufFile:
    """Read the metadata of a GGUF file.

    Raises:
        ModelError: the extra `gguf` is not installed, the file is not GGUF or damaged, or its
            architecture is not one that transformers loads from GGUF.
    """
    status = path.stat()
    return _read_gguf(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # a large vocabulary takes seconds to read
def _read_gguf(path: Path, size: int, modified: int) -> GgufFile:
    check_installed()
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    with path.open("rb") as file:
        if file.read(4) != _MAGIC:
            raise ModelError(f"{str(path)!r} is not a GGUF file (it does not begin with 'GGUF')")
    try:
        reader = GGUFReader(path)
        fields = {key: field for key, field in reader.fields.items() if not _is_long(field)}
        values = {key: field.contents() for key, field in fields.items()}
        architecture = values["general.architecture"]
        tensors = tuple(tensor.name for tensor in reader.tensors)
        elements = sum(
            int(tensor.n_elements)
            for tensor in reader.tensors
            if not tensor.name.startswith(_ROPE_FREQUENCIES)
        )
        kinds = Counter(tensor.tensor_type.name for tensor in reader.tensors)
    except Exception as error:  # the reader's errors have no common base
        raise ModelError(f"{str(path)!r} is truncated or damaged; get it again") from error
    known = set(GGUF_SUPPORTED_ARCHITECTURES) | _mapped_architectures()
    if architecture not in known:
        raise ModelError(
            f"{str(path)!r} has the architecture {architecture!r}, which transformers does not "
            "load from GGUF; pass a folder in transformers' format instead"
        )
    return GgufFile(
        path,
        architecture,
        _below(f"{architecture}.", values),
        _below("tokenizer.ggml.", values),
        tensors,
        elements,
        dict(kinds),
    )


def check_complete(file: GgufFile, config: Any) -> None:
    """Refuse a file with settings that transformers drops and that change the logits.

    Args:
        file: the metadata.
        config: the config that transformers rebuilt from it.

    Raises:
        ModelError: names what would be lost.
    """
    text = config.get_text_config()
    lost = list(file.rope_scaling) if not _scales_rope(text) else []
    read = _keys_read(file.architecture)
    for key, value in file.settings.items():
        if key in read or key in _INCIDENTAL or key in file.rope_scaling:
            continue
        if key in _IMPLIED and _agrees(text, _IMPLIED[key], value):
            continue
        if key.startswith("rope.freq_base"):
            if value in _rope_bases(text):
                continue
        elif key.startswith("rope.scaling."):
            continue  # of the type `none`
        lost.append(key)
    if lost:
        raise ModelError(
            f"{str(file.path)!r} sets {', '.join(lost)}, which transformers drops when it loads "
            "GGUF, so the logits would be wrong; name the folder of the original "
            "config.json, or load the original model",
            argument="config",
        )


def check_all_loaded(file: GgufFile, module: Any) -> None:
    """Refuse a file with tensors that transformers left out.

    Args:
        file: the metadata.
        module: the model that transformers built.

    Raises:
        ModelError: the model has fewer or more parameters than the file.
    """
    found = sum(parameter.numel() for parameter in module.parameters())
    if found != file.elements:
        raise ModelError(
            f"{str(file.path)!r} holds {file.elements:,} parameters, but transformers built a "
            f"model with {found:,}; load the original model instead"
        )


def _mapped_architectures() -> set[str]:
    """List the architectures of transformers' newer GGUF loader, if this version has it."""
    try:
        from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    except ImportError:
        return set()
    return set(GGUF_CONFIG_ARCHS)


def _keys_read(architecture: str) -> set[str]:
    """List the settings that transformers puts into the config."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    mapping = GGUF_TO_TRANSFORMERS_MAPPING["config"].get(architecture, {})
    return {key for key, name in mapping.items() if name not in (None, -1)}


def _is_long(field: Any) -> bool:
    """Whether a field has an entry per token, such as a vocabulary, which is slow to read."""
    return len(field.data) > _MAX_ENTRIES


def _below(prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)
    }


def _agrees(config: Any, names: tuple[str, ...], value: Any) -> bool:
    own = next((getattr(config, name) for name in names if hasattr(config, name)), None)
    if isinstance(own, int | float) and isinstance(value, int | float):
        return abs(own - value) <= 1e-6 * abs(value)
    return bool(own == value)


def _rope(config: Any) -> list[dict[str, Any]]:
    """Return the rope parameters, one dictionary per kind of attention."""
    found = getattr(config, "rope_parameters", None) or {}
    if any(isinstance(value, dict) for value in found.values()):
        return [value for value in found.values() if isinstance(value, dict)]
    return [found]


def _rope_bases(config: Any) -> set[float]:
    return {float(one["rope_theta"]) for one in _rope(config) if "rope_theta" in one}


def _scales_rope(config: Any) -> bool:
    return any(one.get("rope_type", "default") != "default" for one in _rope(config))
