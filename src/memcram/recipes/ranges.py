"""Ranges of a recipe's settings; `memcram.recipes.overrides` holds what it is given to them."""

from typing import Annotated

from pydantic import Field

# The largest number of steps; products with a text's tokens stay within 64 bits.
_MOST = 2**31 - 1

AtLeastOne = Annotated[int, Field(ge=1, le=_MOST)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
# Wider than any model at hand; a larger one only fills the memory.
Width = Annotated[int, Field(ge=1, le=2**16)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
