"""Book chunks from local .txt files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from memcram.texts.chunks import BookSource, Document
from memcram.texts.passages import Paths, files_in, read_utf8


@dataclass(frozen=True, kw_only=True)
class BookChunks(BookSource):
    """Chunks of local books; see `BookSource`.

    Attributes:
        path: files and folders; of a folder, its .txt files are read.
    """

    path: Paths

    def documents(self) -> Sequence[Document]:
        """One document per file, sorted by name."""
        return [
            Document(file.name, partial(read_utf8, file)) for file in files_in(self.path, (".txt",))
        ]
