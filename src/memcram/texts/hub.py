"""Book chunks from data sets of the hub; needs the extra `datasets`."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from memcram.errors import TextError, UsageError
from memcram.texts.chunks import BookSource, Document, collapse, second_half
from memcram.texts.passages import Passage, cut_in_turn
from memcram.texts.sample import TextSample, Tokenize
from memcram.texts.sentences import sentence_starts

# The branch where the hub keeps a Parquet copy of a data set; those made by scripts, as PG-19 is,
# load from nowhere else.
PARQUET = "refs/convert/parquet"


@dataclass(frozen=True, kw_only=True)
class HubBooks(BookSource):
    """Chunks of a data set's books, one book a row; see `BookSource`.

    Attributes:
        dataset: id on the hub, or a local folder of Parquet files.
        config: which of its configurations.
        split: which of its parts.
        column: holds the text.
        revision: branch, tag or commit; None is the main branch.
    """

    dataset: str = "deepmind/pg19"
    config: str = "default"
    split: str = "validation"
    column: str = "text"
    revision: str | None = PARQUET

    def documents(self) -> Sequence[Document]:
        """One document a row, in the data set's order."""
        rows = load_rows(self.dataset, self.config, self.split, self.revision, self.column)
        return [
            Document(_origin(self.dataset, i), partial(_cell, rows, i, self.column))
            for i in range(len(rows))
        ]


@dataclass(frozen=True, kw_only=True)
class HubChunks:
    """Chunks that are published ready cut, one a row: `yurakuratov/pg19_valid_1k_chunks` and such.

    The second half of a row's sentences is the text, the first half its left context.

    Attributes:
        dataset, config, split, column, revision: as of `HubBooks`.
        shuffled: take rows in seeded order; else from the first on, whatever the seed, as the
            paper took its first 50.
        language: ISO 639-1 code, for the sentence boundaries.
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
        """As `TextSource.sample`; offsets count a row's characters, white space collapsed."""
        rows = load_rows(self.dataset, self.config, self.split, self.revision, self.column)
        order = list(range(len(rows)))
        if self.shuffled:
            random.Random(f"{seed}").shuffle(order)
        return cut_in_turn(
            [self._half(rows, i) for i in order],
            tokenize,
            samples=samples,
            n_tokens=n_tokens,
            room=f"the data set has {len(rows)} rows",
        )

    def _half(self, rows: Any, i: int) -> Iterator[Passage]:
        text = collapse(_cell(rows, i, self.column))
        yield second_half(_origin(self.dataset, i), text, sentence_starts(text, self.language))


def load_rows(dataset: str, config: str, split: str, revision: str | None, column: str) -> Any:
    """The rows of one split, which know their `column_names`, their number and `rows[i]`.

    Raises:
        UsageError: the package `datasets` is missing, or the data set has no such column.
        TextError: the data set can't be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "source: data sets need the package datasets: pip install 'memcram[datasets]'"
        ) from error
    # Without naming the files, every split would be downloaded to read one: 11 GB for PG-19.
    files = {split: f"{config}/{split}/*.parquet"} if revision == PARQUET else None
    try:
        rows = datasets.load_dataset(
            dataset,
            None if files else config,
            data_files=files,
            split=split,
            revision=revision,
        )
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TextError(
            f"dataset: {dataset!r}, split {split!r}, can't be loaded: {reason}"
        ) from error
    if column not in rows.column_names:
        allowed = ", ".join(rows.column_names)
        raise UsageError(f"column: got {column!r}, {dataset!r} has: {allowed}")
    return rows


def _cell(rows: Any, i: int, column: str) -> str:
    text = rows[i][column]
    if not isinstance(text, str):
        raise TextError(f"column: {column!r} holds no text in row {i} ({type(text).__name__})")
    return text


def _origin(dataset: str, i: int) -> str:
    # A local folder goes by its name: samples must not depend on where it lies.
    return f"{Path(dataset).name if Path(dataset).is_dir() else dataset}[{i}]"
