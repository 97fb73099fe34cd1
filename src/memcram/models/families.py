"""Split a causal LM into trunk and head; handles all differences between model families."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from memcram.errors import ModelError
from memcram.models.head import Head


@dataclass(frozen=True)
class Parts:
    """The two parts of a causal LM: `head(trunk(embeds)) == module(embeds).logits`.

    Attributes:
        trunk: the module that turns input vectors into final hidden states.
        head: hidden states (..., d) to logits (..., vocabulary).
        cache_argument: the keyword under which the trunk takes its decoding cache.
        takes_positions: whether the trunk takes position ids.
    """

    trunk: nn.Module
    head: Head
    cache_argument: str
    takes_positions: bool


_FACTORS = ("logit_scale", "lm_head_multiplier")
_DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
_CAPS = ("final_logit_softcapping", "output_logit_soft_cap")
_POSITIONS = ("max_position_embeddings", "max_target_positions", "max_seq_len")


def _number(config: Any, names: Sequence[str], default: float | None) -> Any:
    """Return the first of some settings that a config has with a value other than 0 and None."""
    return next((value for name in names if (value := getattr(config, name, None))), default)


def max_positions(config: Any) -> int | None:
    """Return the maximum positions in a model's config; None without a limit (Mamba, BLOOM)."""
    found: int | None = _number(config, _POSITIONS, None)
    return found


def split(module: Any) -> Parts:
    """Split a transformers causal LM into trunk and head.

    Training needs logits only where a token is counted, so the head is applied only to those hidden
    states. Operations of a family's head other than a linear map are reproduced: scales (Cohere,
    Granite, Falcon-H1, Inkling), soft caps (Gemma, xLSTM), and layers before the linear map
    (ModernBERT). The conformance tests and a check at load compare the parts with the whole.
    """
    trunk = module.base_model
    if trunk is module:  # Llama 4, whose config names a base model it does not have
        trunk = module.model
    linear = module.get_output_embeddings()
    first = getattr(module, "lm_head", linear)
    config = module.config.get_text_config()
    cap = _number(config, _CAPS, None)
    scale = _number(config, _FACTORS, 1.0) / _number(config, _DIVISORS, 1.0)

    parameters = inspect.signature(trunk.forward).parameters
    argument = "cache_params" if "cache_params" in parameters else "past_key_values"
    head = Head(linear, None if first is linear else first, scale, cap)
    return Parts(trunk, head, argument, "position_ids" in parameters)


def decoder_layers(trunk: nn.Module, count: int) -> nn.ModuleList:
    """Return the decoder layers of a trunk, of which there are `count`.

    Raises:
        ModelError: no list of as many modules is found.
    """
    lists = (part for part in trunk.modules() if isinstance(part, nn.ModuleList))
    found = next((part for part in lists if len(part) == count), None)
    if found is None:
        raise ModelError(f"the decoder layers of {type(trunk).__name__} are not found")
    return found
