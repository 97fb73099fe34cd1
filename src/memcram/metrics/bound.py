"""Compute the capacity bound: an upper bound on the tokens of a vector."""

import math


def capacity_bound(input_width: int, vocab_size: int, bits: float = 16) -> float:
    """Compute the largest number of tokens one input vector can encode: d · b / log₂|V|.

    A vector of `input_width` coordinates with `bits` bits each has 2^(d·b) values, and a text of L
    tokens is one of |V|^L. Source: Kuratov et al., ACL 2025, equation 1 (with b = 16).

    Args:
        input_width: d, coordinates of an input vector.
        vocab_size: |V|, tokens of the vocabulary.
        bits: b, bits per coordinate.

    Examples:
        >>> round(capacity_bound(input_width=768, vocab_size=50_304))
        787
    """
    return input_width * bits / math.log2(vocab_size)
