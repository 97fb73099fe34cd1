"""Limits on what a visitor of the page may ask for."""

from memcram.archive import Archive
from memcram.compression.codec import decode_text
from memcram.errors import ArchiveError, TextError, UsageError

MAX_TEXT_BYTES = 16_384
MAX_VECTORS = 16
MAX_UPLOAD_BYTES = 4 * 2**20
MAX_ARCHIVE_TOKENS = 8192  # of an uploaded archive; a small file can ask for far more
MAX_JOBS = 2  # that run at the same time
MAX_WAITING = 16  # that wait for one of these to end


def checked_text(text: str | None) -> str:
    """Return a text that can be crammed here.

    Raises:
        TextError: it is empty, too long, or not valid Unicode.
    """
    size = len((text or "").encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        allowed = f"up to {MAX_TEXT_BYTES:,} bytes"
        raise TextError(f"got {size:,} bytes", argument="text", allowed=allowed)
    return decode_text(text or "")


def checked_vectors(vectors: float | None) -> int:
    """Return K.

    Raises:
        UsageError: it is not a whole number in range.
    """
    if vectors is None or vectors not in range(1, MAX_VECTORS + 1):
        raise UsageError(argument="vectors", got=vectors, allowed=f"1 to {MAX_VECTORS}")
    return int(vectors)


def read_upload(data: bytes, name: str) -> Archive:
    """Read an uploaded archive.

    Args:
        data: content of the file.
        name: of the file, for errors.

    Raises:
        ArchiveError: it is too large, not an archive, damaged, or has too many tokens.
    """
    if len(data) > MAX_UPLOAD_BYTES:
        allowed = f"up to {MAX_UPLOAD_BYTES:,}"
        raise ArchiveError(f"got {len(data):,} bytes", argument=name, allowed=allowed)
    archive = Archive.from_bytes(data, name)
    tokens = archive.manifest.text.tokens
    if tokens > MAX_ARCHIVE_TOKENS:
        allowed = f"up to {MAX_ARCHIVE_TOKENS:,} on this page"
        raise ArchiveError(f"got {tokens:,} tokens", argument=name, allowed=allowed)
    return archive
