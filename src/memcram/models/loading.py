"""The one place where weights are loaded."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from memcram.errors import ModelError, UsageError
from memcram.models.fingerprint import fingerprint
from memcram.models.frozen_lm import FrozenLM, ModelIdentity
from memcram.models.modes import DTYPES, LAYOUTS, DtypeName, Layout
from memcram.models.sources import ModelSource, find_model, packaged_models

ATTENTION = ("sdpa", "eager", "flash_attention_2")
DEFAULT_MODEL = "pocket"

__all__ = ["DEFAULT_MODEL", "load_lm", "load_tokenizer", "model_shape", "packaged_models"]


def load_lm(
    name: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: DtypeName = "float32",
    attention: str | None = None,
    layout: Layout = "mem",
    autocast: DtypeName | None = None,
    layers: int | None = None,
) -> FrozenLM:
    """Load a frozen LM by packaged name, local folder or hub id.

    Args:
        name: `pocket`, a folder in transformers' format, or a hub id.
        revision: hub branch, tag or commit.
        device: `cuda`, `cuda:1`, `mps`, `cpu`; None takes the first of cuda, mps, cpu at hand.
        dtype: `float32` (the portable mode), `bfloat16`, `float16` or `float64`.
        attention: `sdpa`, `eager` or `flash_attention_2`; None takes sdpa where the family has it.
        layout: what stands between `[mem]` and t₁: `mem` (nothing) or `mem+bos`.
        autocast: `bfloat16` or `float16`: what matrix products are cast to, over weights of `dtype`
            (as the published grid has it); for measurements, not for archives.
        layers: keep the first n decoder layers, then the final norm and the head; a model with
            fewer than all has a fingerprint of its own. None keeps all.

    Raises:
        UsageError: an argument is not one of its allowed values.
        ModelError: the model can't be had; the message says what to do.

    Example:
        >>> import memcram
        >>> lm = memcram.load_lm("pocket")
        >>> lm.input_width, lm.vocab_size, lm.max_positions
        (256, 4096, 1024)
    """
    _check_choice("dtype", dtype, tuple(DTYPES))
    if attention is not None:
        _check_choice("attention", attention, ATTENTION)
    _check_choice("layout", layout, LAYOUTS)
    if autocast is not None:
        _check_choice("autocast", autocast, ("bfloat16", "float16"))
    target = _device(device)
    source = find_model(name, revision)
    config = None if layers is None else _shortened(source, layers)
    module = _load_module(source, DTYPES[dtype], attention, config).to(target)
    found = fingerprint(source.folder)
    if config is not None:
        found = hashlib.sha256(f"{found}, the first {layers} layers".encode()).hexdigest()
    identity = ModelIdentity(source.id, source.revision, found, None if config is None else layers)
    cast = None if autocast is None else DTYPES[autocast]
    return FrozenLM(module, _load_tokenizer(source), identity, layout, cast)


def model_shape(name: str, revision: str | None = None) -> tuple[int, int]:
    """Input width and vocabulary of a model, from its config alone.

    Raises:
        ModelError: the model or its config can't be had.
    """
    source = find_model(name, revision, config_only=True)
    with torch.device("meta"), _reported(source):
        config = AutoConfig.from_pretrained(
            source.folder, local_files_only=True, trust_remote_code=False
        )
        module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    width: int = module.get_input_embeddings().weight.shape[1]
    vocabulary: int = module.get_output_embeddings().weight.shape[0]
    return width, vocabulary


def load_tokenizer(name: str, revision: str | None = None) -> Callable[[Sequence[int]], str]:
    """What turns ids into text for a model, without its weights: nothing skipped or cleaned up.

    Raises:
        ModelError: the model or its tokenizer can't be had.
    """
    tokenizer = _load_tokenizer(find_model(name, revision, config_only=True))

    def detokenize(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    return detokenize


def _check_choice(argument: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise UsageError(f"{argument}: got {got!r}, allowed: {', '.join(allowed)}")


def _device(name: str | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    at_hand = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or (device.index or 0) >= at_hand.get(device.type, 0):
        here = ", ".join(kind for kind, count in at_hand.items() if count)
        raise UsageError(f"--device: got {name!r}, at hand: {here}")
    if device.type == "cuda":
        # The portable mode: the same logits on another GPU, up to rounding of float32.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def _shortened(source: ModelSource, layers: int) -> Any:
    """The config with the first `layers` layers alone; None where that is all of them.

    Raises:
        UsageError: the model has fewer layers, or does not say how many it has.
    """
    with _reported(source):
        config = AutoConfig.from_pretrained(
            source.folder, local_files_only=True, trust_remote_code=False
        )
    text = config.get_text_config()
    total = getattr(text, "num_hidden_layers", None)
    if not isinstance(total, int):
        raise UsageError(f"{source.id} does not say how many layers it has", argument="layers")
    if not 1 <= layers <= total:
        raise UsageError(argument="layers", got=layers, allowed=f"1 to {total} ({source.id})")
    if layers == total:
        return None
    for name, value in list(vars(text).items()):
        # One entry a layer: which kind of attention it has, and the like.
        if "layer" in name and isinstance(value, list) and len(value) == total:
            setattr(text, name, value[:layers])
    text.num_hidden_layers = layers
    return config


def _load_module(
    source: ModelSource, dtype: torch.dtype, attention: str | None, config: Any = None
) -> Any:
    with _reported(source):
        module, report = AutoModelForCausalLM.from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"{source.id}: the weights lack {len(missing)} tensors of the architecture "
            f"(the first: {missing[0]}); the folder is incomplete or of another model"
        )
    if config is not None and not report["unexpected_keys"]:
        raise ModelError(f"{source.id}: {type(module).__name__} can't be cut to its first layers")
    return module


def _load_tokenizer(source: ModelSource) -> Any:
    with _reported(source, "the tokenizer "):
        return AutoTokenizer.from_pretrained(
            source.folder, local_files_only=True, trust_remote_code=False
        )


@contextlib.contextmanager
def _reported(source: ModelSource, what: str = "") -> Iterator[None]:
    """Turn whatever the libraries raise into one line; their errors have no common base."""
    try:
        with _quiet_transformers():
            yield
    except Exception as error:
        raise ModelError(
            f"{source.id}: {what}could not be loaded ({_first_line(error)})"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the library's own bars and hints off the terminal; errors are told by ours."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
