"""Read the bytes of texts under common coders and `[mem]`, as `benchmarks/bytes.py` writes them."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pandas import DataFrame
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memcram.errors import UsageError, first_line

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Count = Annotated[int, Field(ge=1)]
_Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Row(BaseModel):
    """Texts of one source under one coder; `low` and `high` bound the fraction."""

    model_config = ConfigDict(strict=True, extra="ignore")

    source: _Name
    coder: _Name
    n: _Count
    mean_bytes: _Size
    fraction_of_utf8: _Size
    low: _Size | None
    high: _Size | None
    bits_per_dimension: _Size | None


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    model: _Name
    summary: Annotated[list[_Row], Field(min_length=1)]


COLUMNS = ["model", *_Row.model_fields]


def coder_table(files: list[Path], argument: str = "coders") -> DataFrame:
    """Mean bytes of texts by model, source and coder, in the order of the files.

    Args:
        files: JSON files with `model` and `summary`; other keys are ignored.
        argument: their name in errors.

    Returns:
        One row per model, source and coder.

    Raises:
        UsageError: a file can't be read, or is not such a file.
    """
    tables = [DataFrame(_rows_of(path, argument), columns=COLUMNS) for path in files]
    return pd.concat(tables, ignore_index=True) if tables else DataFrame(columns=COLUMNS)


def _rows_of(path: Path, argument: str) -> list[dict[str, Any]]:
    try:
        read = _File.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        problem = f"{str(path)!r} can't be read ({error.strerror})"
        raise UsageError(problem, argument=argument) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = f"{str(path)!r}: {place or 'the file'}: {first['msg']}"
        raise UsageError(problem, argument=argument) from error
    except (ValueError, RecursionError) as error:
        problem = f"{str(path)!r} is not JSON ({first_line(error)})"
        raise UsageError(problem, argument=argument) from error
    return [{"model": read.model, **row.model_dump()} for row in read.summary]
