"""Measures of capacity and information: pure functions with units in their names."""

from memcram.metrics.bound import capacity_bound
from memcram.metrics.information import (
    CrossEntropyLine,
    bits_from_nats,
    bits_per_byte,
    bits_per_dimension,
    cross_entropy_line,
    cross_entropy_threshold_nats,
    information_gain_bits,
    information_gain_nats,
)
from memcram.metrics.published import (
    PublishedGrid,
    PublishedResult,
    published_grid,
    published_results,
)
from memcram.metrics.statistics import Spread, rank_correlation, spread, wilson95
from memcram.metrics.tokens import (
    Capacity,
    MeanHorizon,
    decoding_capacity_tokens,
    exact_capacity_tokens,
    mean_horizon,
    saturated,
    token_gain_tokens,
    utilisation,
)

__all__ = [
    "Capacity",
    "CrossEntropyLine",
    "MeanHorizon",
    "PublishedGrid",
    "PublishedResult",
    "Spread",
    "bits_from_nats",
    "bits_per_byte",
    "bits_per_dimension",
    "capacity_bound",
    "cross_entropy_line",
    "cross_entropy_threshold_nats",
    "decoding_capacity_tokens",
    "exact_capacity_tokens",
    "information_gain_bits",
    "information_gain_nats",
    "mean_horizon",
    "published_grid",
    "published_results",
    "rank_correlation",
    "saturated",
    "spread",
    "token_gain_tokens",
    "utilisation",
    "wilson95",
]
