"""Decorate the components of a recipe: frozen dataclasses that check their values."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from memcram.errors import UsageError

T = TypeVar("T")

# Strict: True is not a number, and 1.0 not a count. Protocols are checked with isinstance.
_CONFIG = ConfigDict(strict=True, arbitrary_types_allowed=True)


@dataclass_transform(frozen_default=True)
def component(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose fields are validated on construction.

    `dataclasses.replace`, `fields` and `is_dataclass` work as for any dataclass. A value that does
    not match the field's annotation raises `UsageError`, which names the field, the value and what
    is allowed; ranges are in `memcram.recipes.ranges`.

    Examples:
        >>> from typing import Annotated
        >>> from pydantic import Field
        >>> @component
        ... class Step:
        ...     size: Annotated[float, Field(gt=0)] = 1.0
        >>> Step(size=0.0)
        Traceback (most recent call last):
        memcram.errors.UsageError: size: got 0.0, allowed: greater than 0
    """
    made: Any = dataclass(frozen=True, config=_CONFIG)(cls)
    signature = inspect.signature(made)
    unchecked = made.__init__

    @functools.wraps(unchecked)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        try:
            unchecked(self, **given)
        except ValidationError as error:
            raise _usage_error(error, given) from error

    made.__init__ = init
    result: type[T] = made
    return result


def _usage_error(error: ValidationError, given: Mapping[str, Any]) -> UsageError:
    """Convert the first validation error, or those of a union, to a `UsageError`."""
    first, *more = error.errors(include_url=False)
    name = str(first["loc"][0])
    # Each type of a union has its own error, whose location ends with the name of the type.
    branches = [other for other in more if other["loc"][0] == name and _in_union(other["loc"])]
    messages = [one["msg"].removeprefix("Input should be ") for one in (first, *branches)]
    return UsageError(argument=name, got=given[name], allowed=" or ".join(messages))


def _in_union(location: tuple[int | str, ...]) -> bool:
    return len(location) == 2 and isinstance(location[1], str)
