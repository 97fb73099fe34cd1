"""SQL schema of a store, and conversion of rows to and from it."""

from collections.abc import Mapping
from typing import Any

from memcram.study.results import ResultRow, column_types

# "mcst": distinguishes a store from other SQLite files.
APPLICATION_ID = 0x6D637374
VERSION = 1

_SQL_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}


def _row_columns() -> str:
    lines = []
    for name, (kind, optional) in column_types().items():
        if name == "task":
            lines.append("task TEXT PRIMARY KEY REFERENCES tasks (id)")
            continue
        # SQLite stores NaN as NULL; `row_from` reads it as NaN again.
        strict = "" if optional or kind is float else " NOT NULL"
        lines.append(f"{name} {_SQL_TYPES[kind]}{strict}")
    return ",\n  ".join(lines)


# Stores of earlier versions get this table when they are continued.
CELLS = """
CREATE TABLE IF NOT EXISTS cells (
  task TEXT PRIMARY KEY REFERENCES tasks (id),
  model TEXT NOT NULL,
  condition TEXT NOT NULL,
  recipe TEXT NOT NULL,
  source TEXT NOT NULL,
  length INTEGER,
  vectors INTEGER NOT NULL,
  running INTEGER NOT NULL DEFAULT 0
);
"""

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  started TEXT NOT NULL,
  ended TEXT,
  outcome TEXT NOT NULL CHECK (outcome IN ('running', 'done', 'interrupted', 'failed')),
  pid INTEGER NOT NULL,
  settings TEXT NOT NULL,
  texts INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0,
  token_steps INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE tasks (
  id TEXT PRIMARY KEY,
  model INTEGER NOT NULL,
  place INTEGER NOT NULL,
  in_spec INTEGER NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'done', 'failed')),
  reason TEXT,
  cost INTEGER NOT NULL,
  run INTEGER REFERENCES runs (id)
);
CREATE TABLE rows (
  {_row_columns()}
);
{CELLS}
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""


def row_to(row: ResultRow) -> list[Any]:
    """Convert a row to values in the order of the columns."""
    return [getattr(row, name) for name in column_types()]


def row_from(values: Mapping[str, Any]) -> ResultRow:
    """Convert stored values back to a row."""
    found: dict[str, Any] = {}
    for name, (kind, optional) in column_types().items():
        value = values[name]
        if value is None:
            found[name] = None if optional else float("nan")
        else:
            found[name] = kind(value)
    return ResultRow(**found)
