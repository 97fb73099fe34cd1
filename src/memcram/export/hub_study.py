"""A study as a data set of the Hub: its rows and tokens as Parquet, its spec and its vectors.

A store is built again from these files. The database itself is not published: it has paths of the
machine, and one from elsewhere would have to be trusted.
"""

import math
import re
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from memcram import __version__
from memcram.archive.format import UNREADABLE
from memcram.errors import UsageError, first_line, require
from memcram.export.hub_archive import code
from memcram.study.records import check_shapes, record_from
from memcram.study.results import ResultRow, TokenRecord, parquet_bytes, rows_from_parquet
from memcram.study.store import Store

SPEC, RECORD, ROWS, TOKENS, VECTORS = (
    "study.toml",
    "study.json",
    "data/rows.parquet",
    "data/tokens.parquet",
    "vectors.safetensors",
)
# What a store is built again from.
FILES = (SPEC, RECORD, ROWS, VECTORS)

_TASK = re.compile(r"[0-9a-f]{32}")
_MAX_GROUPS = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MAX_COUNT, _MAX_TOTAL = 2**53, 2**62  # exact as floats; an integer of SQLite

_CARD = """\
---
{metadata}
---

# {name}: {n} texts crammed with memcram

Each row of the configuration `rows` is one text at one number of vectors (K) that a frozen language
model reads in place of the text; `tokens` has one row per token. The columns are those of memcram's
results table: `accuracy` is the fraction of tokens that are correct under teacher forcing,
`horizon` the number of tokens before the first miss in free-running decoding, `exact` whether that
is the whole text, and `*_nats` are sums of −log p. `vectors.safetensors` has the vectors of each
row and `study.toml` the spec.

```python
from datasets import load_dataset

rows = load_dataset({repo!r}, "rows", split="train")
```

To continue the study, or to draw its figures:

```sh
pip install 'memcram[study]'
memcram pull {repo} -o {folder}
memcram study report {folder} -o report
```

| model | revision | recipe | layout | source | length | K | n | accuracy | horizon | exact |
|---|---|---|---|---|---|---|---|---|---|---|
{table}

Measured with memcram {memcram}. The texts and the models may have other licences than these
measurements{stated}.
"""


class _Settings(BaseModel):
    """Published settings of a run; the others are paths, the spec and the name of the machine."""

    model_config = ConfigDict(strict=True, extra="ignore")

    versions: dict[str, str] = {}
    device_name: str = ""
    threads: int = 0
    recipes: dict[str, dict[str, Any]] = {}


class _Run(BaseModel):
    """One run of a study: its settings, and the tasks it measured."""

    model_config = ConfigDict(strict=True, extra="forbid")

    settings: _Settings
    tasks: list[Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]]


class _Record(BaseModel):
    """Content of `study.json`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["memcram study"] = "memcram study"
    version: Literal[1] = 1
    runs: list[_Run]


def write_study_repository(store: Store, folder: Path, repo: str, license_id: str | None) -> None:
    """Write the files of a data set and `README.md` to an empty folder.

    Args:
        store: with at least one row.
        folder: where to write.
        repo: `OWNER/NAME`, named in the card.
        license_id: identifier for the card; None states none.

    Raises:
        UsageError: the store has no rows, its vectors are damaged, or pyarrow is not installed.
    """
    require("Parquet files", "pyarrow")
    found = store.rows()
    if not found:
        raise UsageError(f"{str(store.folder)!r} has no rows yet", argument="source")
    records = {row.task: store.record(row.task) for row in found}
    (folder / "data").mkdir()
    (folder / SPEC).write_bytes(store.spec_path.read_bytes())
    (folder / RECORD).write_text(_record(store, found).model_dump_json(indent=1) + "\n", "utf-8")
    (folder / ROWS).write_bytes(parquet_bytes(found))
    (folder / TOKENS).write_bytes(_tokens(records))
    safetensors.torch.save_file(_tensors(records), folder / VECTORS)
    (folder / "README.md").write_text(study_card(found, repo, license_id), "utf-8")


def read_study_repository(folder: Path, target: Path, spec_folder: Path) -> int:
    """Build a store from the files of a data set, which may be hostile.

    Args:
        folder: has `FILES`.
        target: the store's folder; does not exist, or is empty.
        spec_folder: where relative paths of the spec start.

    Returns:
        The number of rows.

    Raises:
        UsageError: a file is damaged, or they do not belong together.
    """
    require("Parquet files", "pyarrow")
    try:
        spec = (folder / SPEC).read_bytes().decode()
        tomllib.loads(spec.removeprefix("\ufeff").replace("\r\n", "\n"))
        record = _Record.model_validate_json((folder / RECORD).read_bytes())
        measured = [task for run in record.runs for task in run.tasks]
        rows = rows_from_parquet((folder / ROWS).read_bytes(), len(measured))
        _check_values(rows)
        found = {row.task: row for row in rows}
        tensors = safetensors.torch.load((folder / VECTORS).read_bytes())
        records = _records(found, tensors)
    except (ValidationError, UsageError, OSError, RecursionError, *UNREADABLE) as error:
        raise _damaged(error) from error
    if sorted(measured) != sorted(found):
        raise _damaged(ValueError(f"{RECORD} and {ROWS} have different tasks"))
    store = Store.create(target, spec, spec_folder)
    store.adopt(list(found.values()))
    for run in record.runs:
        number = store.begin_run(run.settings.model_dump())
        store.add([(found[task], records[task]) for task in run.tasks], number)
        store.end_run(number, "done")
    store.close()
    return len(found)


def study_card(found: Sequence[ResultRow], repo: str, license_id: str | None) -> str:
    """Return the data set card of a study, Markdown after YAML metadata."""
    from huggingface_hub import DatasetCardData

    name = found[0].study
    metadata = DatasetCardData(
        license=license_id,
        pretty_name=name,
        tags=["memcram", "prompt-compression"],
        configs=[
            {"config_name": "rows", "data_files": ROWS, "default": True},
            {"config_name": "tokens", "data_files": TOKENS},
        ],
    )
    return _CARD.format(
        metadata=metadata.to_yaml().strip(),
        repo=repo,
        folder=f"{repo.rpartition('/')[2]}.study",
        name=code(name),
        n=len(found),
        table=_table(found),
        memcram=__version__,
        stated="" if license_id else "; for these, none is stated",
    )


def _table(found: Sequence[ResultRow]) -> str:
    """Format means per group of comparable rows; the first `_MAX_GROUPS` groups."""
    groups: dict[tuple[Any, ...], list[ResultRow]] = defaultdict(list)
    for row in found:
        model = f"{row.model} {row.condition}".strip()
        setting = (row.recipe, row.layout, row.source)
        key = (model, row.revision, *setting, row.length, row.vectors)
        groups[key].append(row)
    lines = [
        "| "
        + " | ".join(
            code(value)
            for value in (
                *key,
                len(group),
                mean(row.accuracy for row in group),
                mean(float(row.horizon) for row in group),
                mean(float(row.exact) for row in group),
            )
        )
        + " |"
        for key, group in list(groups.items())[:_MAX_GROUPS]
    ]
    if len(groups) > _MAX_GROUPS:
        lines.append(f"\n{len(groups) - _MAX_GROUPS} more groups are in the data.")
    return "\n".join(lines)


def _record(store: Store, found: Sequence[ResultRow]) -> _Record:
    """Settings of the runs that measured the rows, without paths and names of the machine."""
    tasks: dict[int, list[str]] = defaultdict(list)
    by = store.measured_by()
    for row in found:
        tasks[by[row.task]].append(row.task)
    settings = {one["id"]: one["settings"] for one in store.runs()}
    runs = [
        _Run(settings=_Settings.model_validate(settings[run]), tasks=of)
        for run, of in sorted(tasks.items())
    ]
    return _Record(runs=runs)


def _tokens(records: dict[str, TokenRecord]) -> bytes:
    """One row per token, as Parquet; an unknown value is null."""
    import pyarrow
    import pyarrow.parquet

    # Column by field: one token has one rank.
    columns = {
        "mem_nats": "mem_nats",
        "lm_nats": "lm_nats",
        "mem_rank": "mem_ranks",
        "lm_rank": "lm_ranks",
        "margin": "margins",
        "learned_step": "learned_step",
    }
    tables = []
    for task, record in records.items():
        n = len(record.ids)
        table = {
            "task": pyarrow.array([task] * n, pyarrow.string()),
            "position": pyarrow.array(range(n), pyarrow.int64()),
            "token_id": pyarrow.array(record.ids.tolist(), pyarrow.int64()),
        }
        for column, field in columns.items():
            values = getattr(record, field)
            exact = values.double() if values.is_floating_point() else values.long()
            table[column] = pyarrow.array(exact.numpy(), from_pandas=True)  # NaN becomes null
        tables.append(pyarrow.table(table))
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.concat_tables(tables), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _tensors(records: dict[str, TokenRecord]) -> dict[str, Tensor]:
    """All tensors of all records, named `TASK.FIELD`."""
    return {
        f"{task}.{field.name}": value.contiguous().clone()
        for task, record in records.items()
        for field in fields(record)
        if (value := getattr(record, field.name)) is not None
    }


def _records(found: dict[str, ResultRow], tensors: dict[str, Tensor]) -> dict[str, TokenRecord]:
    """Sort tensors by task, and check them against the rows."""
    of: dict[str, dict[str, Tensor]] = {task: {} for task in found}
    for name, value in tensors.items():
        task, _, field = name.partition(".")
        of[task][field] = value
    records = {}
    for task, row in found.items():
        if not _TASK.fullmatch(task):
            raise ValueError(f"{task!r} is not the id of a task")
        record = record_from(of[task])
        check_shapes(Path(VECTORS), record)
        if not _fits(row, record):
            raise ValueError(f"the tensors of {task} do not fit its row")
        records[task] = record
    return records


def _check_values(rows: Sequence[ResultRow]) -> None:
    """Refuse numbers that no measurement has, and names that could forge lines on a terminal.

    Raises:
        ValueError: names the column.
    """
    for row in rows:
        for name, value in vars(row).items():
            match value:
                case str():
                    bad = _CONTROL.search(value) is not None
                case float():
                    bad = math.isinf(value)  # NaN is an unknown value
                case int():
                    bad = name != "seed" and not 0 <= value <= _MAX_COUNT
                case _:
                    bad = False
            if bad:
                raise ValueError(f"{name} of a row: {value!r}")
    if sum(row.token_steps for row in rows) > _MAX_TOTAL:
        raise ValueError("token_steps of the rows")


def _fits(row: ResultRow, record: TokenRecord) -> bool:
    """Whether a record has the shapes, types and token ids that its row allows."""
    numbers = [record.mem_nats, record.lm_nats, record.margins]
    counts = [record.ids, record.mem_ranks, record.lm_ranks, record.learned_step]
    tables = [record.curve] if record.rises is None else [record.curve, record.rises]
    return (
        tuple(record.mem.shape) == (row.vectors, row.width)
        and all(tuple(one.shape) == (row.tokens,) for one in numbers + counts)
        and all(one.is_floating_point() for one in [record.mem, record.curve, *numbers])
        and all(one.dtype == torch.int64 for one in counts)
        and all(one.dim() == 2 and one.shape[1] == 3 for one in tables)
        and bool(((record.ids >= 0) & (record.ids < row.vocab_size)).all())
    )


def _damaged(error: Exception) -> UsageError:
    return UsageError(f"the study is damaged ({first_line(error)})", argument="repo")
