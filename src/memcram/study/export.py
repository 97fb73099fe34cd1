"""The rows of stores as Parquet and CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from memcram.errors import UsageError
from memcram.files import check_writable, write_atomically
from memcram.study.results import ResultRow, column_types
from memcram.study.store import Store


def gather(stores: Sequence[Store]) -> list[ResultRow]:
    """Rows of several stores, in their order; a task that is in two of them counts once."""
    rows: dict[str, ResultRow] = {}
    for store in stores:
        for row in store.rows():
            rows.setdefault(row.task, row)
    return list(rows.values())


def export_paths(output: Path) -> tuple[Path, Path]:
    """Where the Parquet and the CSV go: into a folder, or under a prefix."""
    if output.is_dir():
        return output / "rows.parquet", output / "rows.csv"
    return output.with_name(output.name + ".parquet"), output.with_name(output.name + ".csv")


def export_rows(rows: Sequence[ResultRow], output: Path, *, force: bool = False) -> list[Path]:
    """Write rows as `PREFIX.parquet` and `PREFIX.csv`, each whole or not at all.

    Args:
        rows: what to write.
        output: a folder, or a prefix.
        force: replace files that exist.

    Raises:
        UsageError: a file exists, the folder can't be written, or pyarrow is not installed.
    """
    parquet, table = export_paths(output)
    for path in (parquet, table):
        check_writable(path, force=force)
    write_atomically(parquet, parquet_bytes(rows))
    write_atomically(table, csv_bytes(rows))
    return [parquet, table]


def csv_bytes(rows: Sequence[ResultRow]) -> bytes:
    """One line a row under the names of the columns; what is not known stays empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column_types())
    writer.writerows([getattr(row, name) for name in column_types()] for row in rows)
    return text.getvalue().encode()


def parquet_bytes(rows: Sequence[ResultRow]) -> bytes:
    """The rows as a Parquet file, each column in its type even if all of it is empty."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            "export: Parquet needs pyarrow; install it with pip install 'memcram[study]'"
        ) from error
    types = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    schema = pyarrow.schema(
        [
            pyarrow.field(name, types[kind], nullable=optional)
            for name, (kind, optional) in column_types().items()
        ]
    )
    columns = [
        pyarrow.array([getattr(row, field.name) for row in rows], type=field.type)
        for field in schema
    ]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, schema=schema), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
