"""Split a causal LM into trunk and head: the only place that knows differences of families."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Parts:
    """The two parts of a causal LM: `head(trunk(embeds)) == module(embeds).logits`.

    Attributes:
        trunk: the module that turns input vectors into final hidden states.
        head: hidden states (..., d) to logits (..., vocabulary).
        cache_argument: the keyword under which the trunk takes its decoding cache.
    """

    trunk: nn.Module
    head: Callable[[Tensor], Tensor]
    cache_argument: str


def split(module: Any) -> Parts:
    """Split a transformers causal LM into trunk and head.

    Training needs logits only where a token is counted, so the head is applied only to those hidden
    states. What families do besides a linear map after the trunk is repeated here (Gemma's soft
    cap; the scales of Cohere and Granite); the conformance tests and a check at load compare the
    parts with the whole.
    """
    trunk = module.base_model
    linear = module.get_output_embeddings()
    config = module.config.get_text_config()
    cap: float | None = getattr(config, "final_logit_softcapping", None)
    scale = float(getattr(config, "logit_scale", 1.0) or 1.0)
    scale /= float(getattr(config, "logits_scaling", 1.0) or 1.0)

    def head(hidden: Tensor) -> Tensor:
        logits: Tensor = linear(hidden.to(linear.weight.dtype))
        if scale != 1.0:
            logits = logits * scale
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        return logits

    parameters = inspect.signature(trunk.forward).parameters
    argument = "cache_params" if "cache_params" in parameters else "past_key_values"
    return Parts(trunk, head, argument)
