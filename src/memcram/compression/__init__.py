"""Compress a text of any length to an archive, and restore the same bytes."""

from memcram.compression.chunks import CodecProgress
from memcram.compression.codec import compress, cram, decompress
from memcram.compression.estimate import MeasuredChunk, Plan, TextPlan, plan
from memcram.compression.verify import Verification, verify

__all__ = [
    "CodecProgress",
    "MeasuredChunk",
    "Plan",
    "TextPlan",
    "Verification",
    "compress",
    "cram",
    "decompress",
    "plan",
    "verify",
]
