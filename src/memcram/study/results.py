"""The results table: one row per measured text, and a record of each of its tokens.

Every figure and table of a report is a function of these rows and token records only. In all
columns, t₁ … t_N are the tokens of the text; `*_nats` and `*_right` run over t₂ … t_N, which the
bare LM predicts too; t₁ has separate columns.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

from torch import Tensor

from memcram.errors import UsageError, first_line, require
from memcram.files import check_writable, write_atomically

_MAX_TEXT_BYTES = 8192  # of a value; a path has at most 4,096


@dataclass(frozen=True)
class ResultRow:
    """Measurements of one text at one K.

    Attributes:
        task: hash of everything that determines the row; file name of its vectors.
        study: name of the study.
        kind: `capacity` (texts of given length), `horizon` (as much as fits), or an ablation
            (docs/studies.md).
        condition: what an ablation varies (`context=64`, `layers=3`, …); else empty.
        model: as the spec names it.
        revision: commit of a model from the hub, else None.
        fingerprint: hash of its weights, configuration and tokenizer.
        parameters: number of weights of the model.
        layers, width, vocab_size: of the model; width of an input vector.
        max_positions: longest input, None without a limit.
        recipe: its name.
        dtype: of weights and vectors, plus that of autocast (`float32+bfloat16`).
        layout: what is fed before t₁: `mem` or `mem+bos`, and the number of visible tokens if
            there are any (`mem+8 tokens`); they are not counted in any column.
        first_token_given: t₁ was fed, not predicted.
        bos_in_text: the tokenizer's BOS is part of the text and counts as t₁ (published recipes).
        source: name of the text source in the study.
        text_id, origin, offset: of the sample; offset in characters.
        length: tokens asked for (for a horizon: tokens offered).
        tokens: N, tokens of the text that was crammed.
        utf8_bytes: bytes of those tokens as text.
        vectors: K; 0 where n tokens of left context replace the vectors. The columns about `mem`
            are then about the context.
        seed: of the init.
        outcome: how the optimisation ended; empty where nothing was optimised.
        steps, best_step: optimiser steps in total, and up to the stored vectors.
        token_steps: positions that went forward and backward.
        seconds: time of this text's batch, divided among its texts by token-steps.
        n_counted: tokens in the loss (N, or N − 1 where t₁ was given).
        n_right: correct ones among them: the argmax under teacher forcing, with the stored vectors.
        accuracy: n_right / n_counted, the teacher-forced accuracy.
        horizon: tokens before the first miss in free-running decoding from the stored vectors;
            where t₁ was given, it is given here too and not counted.
        exact: free-running decoding returned every counted token.
        censored: every token offered was decoded, so that a longer text might have fitted.
        min_margin: smallest margin (logits) over the counted tokens under teacher forcing.
        first_nats: −log p of t₁ given `mem`; None where t₁ was given.
        mem_nats, lm_nats: Σ −log p over t₂ … t_N with `mem` and under the bare LM.
        mem_right, lm_right: correct tokens among t₂ … t_N with `mem` and under the bare LM.
        paper_accuracy: largest accuracy of the run, as in the code of Kuratov et al. This
            and the next two are None unless the recipe fills them (`Recipe.paper_columns`).
        paper_mem_nats: smallest mean loss of the run × N.
        paper_lm_nats: mean loss of the bare LM over t₂ … t_N × N.
    """

    task: str
    study: str
    kind: str
    condition: str
    model: str
    revision: str | None
    fingerprint: str
    parameters: int
    layers: int
    width: int
    vocab_size: int
    max_positions: int | None
    recipe: str
    dtype: str
    layout: str
    first_token_given: bool
    bos_in_text: bool
    source: str
    text_id: str
    origin: str
    offset: int
    length: int
    tokens: int
    utf8_bytes: int
    vectors: int
    seed: int
    outcome: str
    steps: int
    best_step: int
    token_steps: int
    seconds: float
    n_counted: int
    n_right: int
    accuracy: float
    horizon: int
    exact: bool
    censored: bool
    min_margin: float | None
    first_nats: float | None
    mem_nats: float
    lm_nats: float
    mem_right: int
    lm_right: int
    paper_accuracy: float | None = None
    paper_mem_nats: float | None = None
    paper_lm_nats: float | None = None


@dataclass(frozen=True)
class TokenRecord:
    """Vectors and measurements per token of one row; one safetensors file per row.

    Attributes:
        mem: (K, width) the stored vectors, in the model's dtype.
        ids: (N,) the tokens.
        mem_nats: (N,) −log p with `mem`, under teacher forcing; NaN for a t₁ that was given.
        lm_nats: (N,) −log p under the bare LM; NaN for t₁ if no visible token precedes it.
        mem_ranks: (N,) rank of the true token with `mem` (0 is the argmax); −1 for a given t₁.
        lm_ranks: (N,) the same under the bare LM; −1 for t₁ if no visible token precedes it.
        margins: (N,) in logits, with `mem`; NaN for a given t₁.
        learned_step: (N,) the step from which the token stayed correct up to the stored vectors;
            −1 where it is not correct at the end.
        curve: (points, 3) step, correct tokens (for a horizon: tokens held) and mean loss.
        rises: (rises, 3) step, token-steps and tokens held whenever more were held than before;
            None in older stores.
        path_steps: (points,) steps of `path`, rising except for the last; None without a path.
        path: (points, K, width) `[mem]` as measured, evenly spread over the run, in the model's
            dtype. The last point is `mem`; points before it may be from later steps.
        probe_nats: (4, 1 + others, C) −log p of the C tokens of the true continuation and of other
            texts' continuations, after each of `probe_record.CONTEXTS`; NaN for a first token that
            nothing precedes. This and the rest are None except in the kind `probe`.
        probe_attention: (2, layers, heads) attention to `[mem]`, and to a random vector in its
            place, averaged over the positions after it; NaN where there are none.
        probe_cuts: (2, layers + 1, 2) correct tokens, and mean −log p of the counted tokens,
            without attention to `[mem]` in layer i only, and in the first i layers; i = 0 cuts
            nothing.
        probe_item_nats: (3, items, choices) −log p of each choice of the multiple-choice items,
            after each of `probe_record.ITEM_CONTEXTS`; NaN where an item has fewer choices.
        probe_items: (items, 1 + choices) index of the answer, then the characters of each choice.
    """

    mem: Tensor
    ids: Tensor
    mem_nats: Tensor
    lm_nats: Tensor
    mem_ranks: Tensor
    lm_ranks: Tensor
    margins: Tensor
    learned_step: Tensor
    curve: Tensor
    rises: Tensor | None = None
    path_steps: Tensor | None = None
    path: Tensor | None = None
    probe_nats: Tensor | None = None
    probe_attention: Tensor | None = None
    probe_cuts: Tensor | None = None
    probe_item_nats: Tensor | None = None
    probe_items: Tensor | None = None


@dataclass(frozen=True)
class ProbeValue:
    """One line of the table of probes: one measure of one text.

    Attributes:
        task, model, recipe, source, text_id, vectors, tokens, exact: of the text's row.
        measure, context, layer, head, value: see `memcram.study.probe_values`.
    """

    task: str
    model: str
    recipe: str
    source: str
    text_id: str
    vectors: int
    tokens: int
    exact: bool
    measure: str
    context: str
    layer: int
    head: int
    value: float


_Table = type[ResultRow] | type[ProbeValue]
_Rows = Sequence[ResultRow] | Sequence[ProbeValue]


def column_types(table: _Table = ResultRow) -> dict[str, tuple[type, bool]]:
    """Return the type of each column and whether it may be None, in the table's order."""
    found = {}
    for field in fields(table):
        union = isinstance(field.type, UnionType)
        kinds = [kind for kind in get_args(field.type) if kind is not NoneType]
        found[field.name] = (kinds[0] if union else field.type, union)
    return found  # type: ignore[return-value]


def export_rows(
    rows: Sequence[ResultRow],
    output: Path,
    *,
    force: bool = False,
    run_file: bytes | None = None,
    probes: Sequence[ProbeValue] = (),
) -> list[Path]:
    """Write rows as `PREFIX.parquet` and `PREFIX.csv`, each completely or not at all.

    Args:
        rows: rows of the results table.
        output: the prefix, or a folder, where the files are called `rows`.
        force: replace existing files.
        run_file: also write this as `PREFIX.run.json`.
        probes: also write these as `PREFIX.probe.parquet` and `PREFIX.probe.csv`, if there are any.

    Raises:
        UsageError: a file exists, the folder can't be written, or pyarrow is not installed.
    """
    prefix = output / "rows" if output.is_dir() else output
    files: dict[str, Callable[[], bytes]] = {
        "parquet": lambda: parquet_bytes(rows),
        "csv": lambda: _csv_bytes(rows),
    }
    if run_file is not None:
        files["run.json"] = lambda: run_file
    if probes:
        files["probe.parquet"] = lambda: parquet_bytes(probes, ProbeValue)
        files["probe.csv"] = lambda: _csv_bytes(probes, ProbeValue)
    paths = {end: prefix.with_name(f"{prefix.name}.{end}") for end in files}
    for path in paths.values():
        check_writable(path, force=force)
    for end, content in files.items():
        write_atomically(paths[end], content())
    return list(paths.values())


def _csv_bytes(rows: _Rows, table: _Table = ResultRow) -> bytes:
    """Convert rows to CSV, with a header; None is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(column_types(table)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def parquet_bytes(rows: _Rows, table: _Table = ResultRow) -> bytes:
    """Convert rows to Parquet; each column has its type even if all its values are None."""
    schema = _schema(table)
    import pyarrow
    import pyarrow.parquet

    found = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(found, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def rows_from_parquet(data: bytes, count: int) -> list[ResultRow]:
    """Convert Parquet to rows; refuse very many rows and very long names of a small file.

    Args:
        data: content of the file.
        count: number of rows that it must have.

    Raises:
        UsageError: it is not Parquet, has other columns than `ResultRow`, another number of rows,
            or too long a name.
    """
    schema = _schema()
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        if not file.schema_arrow.equals(schema):
            raise UsageError("the Parquet file does not have the columns of a results table")
        groups = range(file.metadata.num_row_groups)
        found = sum(file.metadata.row_group(group).num_rows for group in groups)
        if found != count:
            raise UsageError(f"the Parquet file has {found} rows, not {count}")
        texts = [one.name for one in schema if one.type == pyarrow.string()]
        # Each text of a column once, however many rows have it.
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data), read_dictionary=texts)
        table = file.read()
        for name in texts:
            for chunk in table.column(name).chunks:
                longest = pyarrow.compute.max(pyarrow.compute.binary_length(chunk.dictionary))
                if (longest.as_py() or 0) > _MAX_TEXT_BYTES:
                    raise UsageError(f"the Parquet file has a {name} of {longest} bytes")
        return [ResultRow(**row) for row in table.to_pylist()]
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(f"not a Parquet file ({first_line(error)})") from error


def _schema(table: _Table = ResultRow) -> Any:
    """Arrow schema of a table."""
    require("Parquet files", "pyarrow")
    import pyarrow

    types = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    return pyarrow.schema(
        pyarrow.field(name, types[kind], nullable=optional)
        for name, (kind, optional) in column_types(table).items()
    )
