"""Find tokens that decode wrongly, or with a margin too small to trust on another machine."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memcram.models.decoding import Decoded

# Smallest margin (logits) that is trusted on other machines, by dtype of the model; reasons in
# docs/decisions/008-guards.md.
GUARD_MARGINS: dict[torch.dtype, float] = {
    torch.float64: 0.01,  # parts of some families are computed in float32 even so
    torch.float32: 0.01,
    torch.float16: 0.25,
    torch.bfloat16: 1.0,
}


@dataclass(frozen=True)
class Corrections:
    """Tokens to store in addition to the vectors.

    Attributes:
        missed: (token,) positions, in the joined tokens of all chunks, that decode wrongly.
        guarded: (token,) positions that decode correctly with less than the guard margin.
        margins: (chunk,) minimum margin over all other tokens, infinite if there are none.
    """

    missed: Tensor
    guarded: Tensor
    margins: Tensor


def find_corrections(
    decoded: Sequence[Decoded], ids: Sequence[Tensor], guard_margin: float
) -> Corrections:
    """Compare chunks decoded along their true tokens with those tokens.

    Args:
        decoded: per chunk, decoded with all its tokens forced.
        ids: per chunk (n,) the true tokens.
        guard_margin: in logits.
    """
    missed, guarded, margins = [], [], []
    for one, true in zip(decoded, ids, strict=True):
        wrong = (one.predicted != true) | ~(one.margins > 0)
        loose = ~wrong & ~(one.margins >= guard_margin)
        missed.append(wrong)
        guarded.append(loose)
        margins.append(one.margins.masked_fill(wrong | loose, float("inf")).amin())
    none = torch.zeros(0, dtype=torch.bool)
    return Corrections(
        missed=torch.cat([none, *missed]).nonzero()[:, 0],
        guarded=torch.cat([none, *guarded]).nonzero()[:, 0],
        margins=torch.tensor([margin.item() for margin in margins], dtype=torch.float32),
    )
