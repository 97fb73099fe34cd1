"""Draw book chunks from data sets on the Hugging Face hub; needs the extra `datasets`."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from memcram.errors import TextError, UsageError, first_line, require
from memcram.texts.books import BookSource, Document, collapse, second_half
from memcram.texts.passages import Passage, cut_in_turn
from memcram.texts.sample import TextSample, Tokenize
from memcram.texts.sentences import sentence_starts

# The branch with the hub's Parquet copy of a data set. Data sets that are defined by a script, such
# as PG-19, can only be loaded from it.
PARQUET = "refs/convert/parquet"


@dataclass(frozen=True, kw_only=True)
class HubBooks(BookSource):
    """Chunks of a data set with one book per row; see `BookSource`.

    Attributes:
        dataset: id on the hub, or a local folder of Parquet files.
        config: name of a configuration.
        split: name of a split.
        column: name of the text column.
        revision: branch, tag or commit; None: the main branch.
    """

    dataset: str = "deepmind/pg19"
    config: str = "default"
    split: str = "validation"
    column: str = "text"
    revision: str | None = PARQUET

    def documents(self) -> Sequence[Document]:
        """One document per row, in the order of the data set."""
        rows = load_rows(self.dataset, self.config, self.split, self.revision, self.column)
        return [
            Document(_origin(self.dataset, i), partial(_cell, rows, i, self.column))
            for i in range(len(rows))
        ]


@dataclass(frozen=True, kw_only=True)
class HubChunks:
    """Published chunks, one per row, such as `yurakuratov/pg19_valid_1k_chunks`.

    The second half of a row's sentences is the text, the first half its left context.

    Attributes:
        dataset, config, split, column, revision: see `HubBooks`.
        shuffled: take rows in seeded order; otherwise the first rows, whatever the seed, as the
            paper took its first 50.
        language: ISO 639-1 code used to find sentence boundaries.
    """

    dataset: str
    config: str = "default"
    split: str = "train"
    column: str = "text"
    revision: str | None = None
    shuffled: bool = False
    language: str = "en"

    def sample(
        self, tokenize: Tokenize, *, samples: int, n_tokens: int, seed: int = 0
    ) -> list[TextSample]:
        """See `TextSource.sample`; offsets count characters after whitespace is collapsed."""
        rows = load_rows(self.dataset, self.config, self.split, self.revision, self.column)
        order = list(range(len(rows)))
        if self.shuffled:
            random.Random(f"{seed}").shuffle(order)
        return cut_in_turn(
            [self._half(rows, i) for i in order],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            limit=f"the data set has {len(rows)} rows",
        )

    def _half(self, rows: Any, i: int) -> Iterator[Passage]:
        text = collapse(_cell(rows, i, self.column))
        yield second_half(_origin(self.dataset, i), text, sentence_starts(text, self.language))


def load_rows(dataset: str, config: str, split: str, revision: str | None, column: str) -> Any:
    """Load one split: a sequence of rows with the attribute `column_names`.

    Raises:
        UsageError: the package `datasets` is not installed, or the data set has no such column.
        TextError: the data set can't be loaded.
    """
    require("data sets", "datasets", extra="datasets", argument="source")
    import datasets

    # Without data_files every split would be downloaded: 11 GB for PG-19.
    files = {split: f"{config}/{split}/*.parquet"} if revision == PARQUET else None
    try:
        rows = datasets.load_dataset(
            dataset, None if files else config, data_files=files, split=split, revision=revision
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise TextError(
            f"{dataset!r}, split {split!r}, can't be loaded: {first_line(error)}",
            argument="dataset",
        ) from error
    if column not in rows.column_names:
        allowed = ", ".join(rows.column_names)
        raise UsageError(f"got {column!r}, {dataset!r} has: {allowed}", argument="column")
    return rows


def _cell(rows: Any, i: int, column: str) -> str:
    text = rows[i][column]
    if not isinstance(text, str):
        raise TextError(
            f"{column!r} holds no text in row {i} ({type(text).__name__})", argument="column"
        )
    return text


def _origin(dataset: str, i: int) -> str:
    # Only the name of a local folder: samples must not depend on its location.
    return f"{Path(dataset).name if Path(dataset).is_dir() else dataset}[{i}]"
