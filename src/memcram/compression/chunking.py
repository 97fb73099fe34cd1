"""Where a text's tokens are cut into chunks."""

from itertools import pairwise

from memcram.metrics.bound import capacity_bound

# Share of the 16-bit capacity bound that the default recipe fills on nearly every text; see
# docs/decisions/004-default-recipe.md.
_USUAL_UTILISATION = 0.035
_SMALLEST_CHUNK = 4


def usual_chunk_tokens(input_width: int, vocab_size: int, vectors: int) -> int:
    """Tokens that K vectors of a model of this width hold on nearly every text."""
    one = _USUAL_UTILISATION * capacity_bound(input_width, vocab_size, bits=16)
    return max(_SMALLEST_CHUNK, int(one)) * vectors


def stretches(n_tokens: int, longest: int) -> tuple[tuple[int, int], ...]:
    """First token and end of stretches of at most `longest` tokens, alike but for one token.

    >>> stretches(10, 4)
    ((0, 4), (4, 7), (7, 10))
    """
    count = -(-n_tokens // longest)
    edges = [0]
    for i in range(count):
        edges.append(edges[-1] + n_tokens // count + (i < n_tokens % count))
    return tuple(pairwise(edges))
