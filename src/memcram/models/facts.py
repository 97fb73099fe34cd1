"""Properties of a loaded model, as printed by `memcram models inspect`."""

from typing import Any

from memcram.metrics.bound import capacity_bound
from memcram.models.frozen_lm import FrozenLM

# Spaces at both ends and in a row, letters of several scripts, and characters outside the BMP.
ROUND_TRIP_TEXT = " It's 3.5  o'clock,\n\tnaïve Ελλ 東京 👩‍🚀 <s> "


def model_facts(lm: FrozenLM) -> dict[str, Any]:
    """Collect the properties of a model.

    Returns:
        model, revision, fingerprint: its identity.
        architecture: class of the module in transformers.
        parameters, layers: how many it has.
        input_width: coordinates of an input vector.
        vocab_size: rows of the output head.
        max_positions: longest input; None without a limit.
        dtype, device: of the loaded weights.
        weights_bytes: memory of the weights on the device.
        bos_id: id of the BOS token, or None.
        tokenizer_adds_bos: the tokenizer adds a BOS token in front of a text by default.
        tokenizer_round_trip: a difficult test string comes back unchanged from its tokens.
        bound_tokens: capacity bound of one vector at 16 bits per coordinate.
    """
    return {
        "model": lm.identity.id,
        "revision": lm.identity.revision,
        "fingerprint": lm.identity.fingerprint,
        "architecture": type(lm.module).__name__,
        "parameters": lm.parameters,
        "layers": lm.layers,
        "input_width": lm.input_width,
        "vocab_size": lm.vocab_size,
        "max_positions": lm.max_positions,
        "dtype": lm.dtype_name,
        "device": str(lm.device),
        "weights_bytes": sum(p.numel() * p.element_size() for p in lm.module.parameters()),
        "bos_id": lm.bos_id,
        "tokenizer_adds_bos": lm.adds_bos,
        "tokenizer_round_trip": lm.detokenize(lm.tokenize(ROUND_TRIP_TEXT)) == ROUND_TRIP_TEXT,
        "bound_tokens": capacity_bound(lm.input_width, lm.vocab_size, bits=16),
    }
