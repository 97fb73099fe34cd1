"""Number types of a recipe's settings, with their allowed ranges."""

from typing import Annotated

from pydantic import Field

# Largest number of steps; its product with a text's tokens stays within 64 bits.
_LARGEST = 2**31 - 1

AtLeastOne = Annotated[int, Field(ge=1, le=_LARGEST)]
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
# Wider than any known model; a larger number would only fill the memory.
Width = Annotated[int, Field(ge=1, le=2**16)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
