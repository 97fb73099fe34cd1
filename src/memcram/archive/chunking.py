"""Where a text's tokens are cut into chunks."""

from memcram.metrics.bound import capacity_bound

# Share of the 16-bit capacity bound that the default recipe fills on nearly every text; see
# docs/decisions/004-default-recipe.md.
_DEFAULT_UTILISATION = 0.035
_SMALLEST_CHUNK = 4


def default_chunk_tokens(input_width: int, vocab_size: int, vectors: int) -> int:
    """Tokens that K vectors of a model of this width hold on nearly every text."""
    one = _DEFAULT_UTILISATION * capacity_bound(input_width, vocab_size, bits=16)
    return max(_SMALLEST_CHUNK, int(one)) * vectors


def chunk_lengths(n_tokens: int, chunk_tokens: int) -> list[int]:
    """Lengths of at most `chunk_tokens` that differ by one at most and sum to `n_tokens`.

    >>> chunk_lengths(10, 4)
    [4, 3, 3]
    """
    count = -(-n_tokens // chunk_tokens)
    if count == 0:
        return []
    short, longer = divmod(n_tokens, count)
    return [short + 1] * longer + [short] * (count - longer)
