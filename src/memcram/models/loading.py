"""Load frozen language models; the only module that calls `from_pretrained`."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from memcram.errors import MemcramError, ModelError, UsageError, first_line
from memcram.models.checks import check_model
from memcram.models.folder import FOLDER
from memcram.models.frozen_lm import FrozenLM, ModelIdentity
from memcram.models.memory import is_out_of_memory
from memcram.models.modes import LAYOUTS, DtypeName, Layout, dtype_of
from memcram.models.sources import ModelSource, find_model

ATTENTION = ("sdpa", "eager", "flash_attention_2")
DEFAULT_MODEL = "pocket"


def load_lm(
    name: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    config: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: DtypeName | torch.dtype = "float32",
    attention: str | None = None,
    layout: Layout = "mem",
    autocast: DtypeName | torch.dtype | None = None,
    layers: int | None = None,
) -> FrozenLM:
    """Load a frozen LM by packaged name, local folder, GGUF file or hub id.

    Args:
        name: `pocket`, a folder in transformers' format, a GGUF file, or a hub id.
        revision: hub branch, tag or commit.
        config: folder with the original config.json of a GGUF model, in place of the file's own
            metadata, from which transformers drops rope scaling. None: that of the model's folder,
            if `name` is a folder that has one, or else the metadata.
        device: `cuda`, `cuda:1`, `mps`, `cpu`, or a torch.device; None: the first available of
            cuda, mps, cpu.
        dtype: `float32` (the portable mode), `bfloat16`, `float16` or `float64`, or a torch.dtype.
        attention: `sdpa`, `eager` or `flash_attention_2`; None: sdpa where the family has it.
        layout: what is between `[mem]` and t₁: `mem` (nothing) or `mem+bos`.
        autocast: `bfloat16` or `float16`, or a torch.dtype: what matrix products are cast to, with
            weights of `dtype` (as in the published grid); for measurements, not for archives.
        layers: keep the first n decoder layers, then the final norm and the head; a model with
            fewer than all has a fingerprint of its own. None keeps all.

    Raises:
        UsageError: an argument is not one of its allowed values.
        ModelError: the model is not available, or memcram cannot work with it; the message says
            what to do.

    Examples:
        >>> import memcram
        >>> lm = memcram.load_lm("pocket")
        >>> lm.input_width, lm.vocab_size, lm.max_positions
        (256, 4096, 1024)
    """
    weights = dtype_of(dtype)
    cast = None
    if autocast is not None:
        cast = dtype_of(autocast, argument="autocast", allowed=("bfloat16", "float16"))
    if attention is not None:
        _check_choice("attention", attention, ATTENTION)
    _check_choice("layout", layout, LAYOUTS)
    target = _device(device)
    source = find_model(name, revision, config=config)
    tokenizer = _load_tokenizer(source, *_converted(source))
    shortened = None if layers is None else _shortened(source, layers)
    module = _load_module(source, weights, attention, shortened)
    with _reported(source):
        module = module.to(target)
    whole = module if shortened is None and weights == torch.float32 else None
    identity = _identity(source, whole, None if shortened is None else layers)
    with _reported(source, f"{type(module).__name__} "):
        lm = FrozenLM(module, tokenizer, identity, layout, cast)
        check_model(lm)
    return lm


def _identity(source: ModelSource, whole: Any, layers: int | None) -> ModelIdentity:
    """Return the identity of a model; `whole` is its whole module in float32, if it is loaded."""

    def load() -> Any:
        return _load_module(source, torch.float32, None) if whole is None else whole

    def of_layers(found: str) -> str:
        if layers is None:
            return found
        return hashlib.sha256(f"{found}, the first {layers} layers".encode()).hexdigest()

    earlier = source.format.earlier_fingerprint(source.path)
    return ModelIdentity(
        source.id,
        source.revision,
        of_layers(source.format.fingerprint(source.path, load)),
        layers,
        None if earlier is None else of_layers(earlier),
    )


def model_shape(name: str, revision: str | None = None) -> tuple[int, int]:
    """Read the input width and vocabulary size of a model from its config alone.

    Raises:
        ModelError: the model or its config is not available.
    """
    source = find_model(name, revision, config_only=True)
    config = _load_config(source)
    with torch.device("meta"), _reported(source):
        module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    width: int = module.get_input_embeddings().weight.shape[1]
    vocabulary: int = module.get_output_embeddings().weight.shape[0]
    return width, vocabulary


def load_tokenizer(name: str, revision: str | None = None) -> Callable[[Sequence[int]], str]:
    """Return a function that detokenizes ids of a model, without loading weights or config.

    It skips no special tokens and cleans nothing up, like `FrozenLM.detokenize`.

    Raises:
        ModelError: the model or its tokenizer is not available.
    """
    source = find_model(name, revision, config_only=True)
    kept = source.format.converted(source.path)
    place = (kept, {}) if kept is not None and kept.is_dir() else _original(source)
    tokenizer = _load_tokenizer(source, *place)

    def detokenize(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    return detokenize


def _check_choice(argument: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise UsageError(argument=argument, got=got, allowed=", ".join(allowed))


def _device(name: str | torch.device | None) -> torch.device:
    if name is None:
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or (device.index or 0) >= available.get(device.type, 0):
        here = ", ".join(kind for kind, count in available.items() if count)
        raise UsageError(f"got {str(name)!r}, available: {here}", argument="device", got=name)
    if device.type == "cuda":
        # The portable mode: the same logits on another GPU, up to rounding of float32.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def _shortened(source: ModelSource, layers: int) -> Any:
    """Return the config with only the first `layers` layers; None if that is all of them.

    Raises:
        UsageError: the model has fewer layers, or does not say how many it has.
    """
    config = _load_config(source)
    text = config.get_text_config()
    total = getattr(text, "num_hidden_layers", None)
    if not isinstance(total, int):
        raise UsageError(f"{source.id} does not say how many layers it has", argument="layers")
    if not 1 <= layers <= total:
        raise UsageError(argument="layers", got=layers, allowed=f"1 to {total} ({source.id})")
    if layers == total:
        return None
    for name, value in list(vars(text).items()):
        # One entry per layer, such as its kind of attention.
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
            config=_load_config(source) if config is None else config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **source.options,
        )
    missing = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if missing:
        raise ModelError(
            f"{source.id}: the weights lack {len(missing)} tensors of the architecture "
            f"(the first: {missing[0]}); the folder is incomplete, or has another model's config"
        )
    if config is None:
        source.format.check_loaded(source.path, module)
    elif not report["unexpected_keys"] and source.format is FOLDER:
        raise ModelError(
            f"{source.id}: {type(module).__name__} cannot be truncated to its first layers"
        )
    return module


def _load_config(source: ModelSource) -> Any:
    folder, options = _converted(source)
    with _reported(source):
        return AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )


def _load_tokenizer(source: ModelSource, folder: Path, options: dict[str, Any]) -> Any:
    with _reported(source, "the tokenizer "):
        return AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )


def _original(source: ModelSource) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the model's own config and tokenizer, and the options to load them."""
    return source.folder, source.options


def _converted(source: ModelSource) -> tuple[Path, dict[str, Any]]:
    """Do the same for the converted config and tokenizer, if the format converts them."""
    folder = source.format.converted(source.path)
    if folder is None:
        return _original(source)
    if not folder.is_dir():
        original = source.format.original_config(source.path)
        with _reported(source):
            config = AutoConfig.from_pretrained(
                original or source.folder,
                local_files_only=True,
                trust_remote_code=False,
                **({} if original else source.options),
            )
        tokenizer = _load_tokenizer(source, *_original(source))
        with _reported(source):
            source.format.keep_converted(source.path, config, tokenizer)
    return folder, {}


@contextlib.contextmanager
def _reported(source: ModelSource, what: str = "") -> Iterator[None]:
    """Turn any error of the libraries into a one-line error; they have no common base class."""
    try:
        with _quiet_transformers():
            yield
    except MemcramError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"{source.id}: out of memory while the model was loaded; use a smaller dtype or "
                "another device"
            ) from error
        raise ModelError(f"{source.id}: {what}could not be loaded ({first_line(error)})") from error


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the library's progress bars and hints, and convert its errors to ours."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        # Its bar for GGUF tensors ignores both settings.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
