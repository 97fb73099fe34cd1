"""Book chunks from a person's own .txt books."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from memcram.texts.chunks import BookSource, Document
from memcram.texts.passages import Paths, files_in, read_utf8


@dataclass(frozen=True, kw_only=True)
class BookChunks(BookSource):
    """Chunks of local books; see `BookSource`.

    Attributes:
        path: books, and folders whose .txt files are books.
    """

    path: Paths

    def documents(self) -> Sequence[Document]:
        """One document a file, by name."""
        return [
            Document(file.name, partial(read_utf8, file)) for file in files_in(self.path, (".txt",))
        ]
