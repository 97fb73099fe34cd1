"""Convert text to token ids and back, byte for byte, even if the tokenizer does not round-trip.

Where a tokenizer changes the text (lower-cases, strips, normalises, prepends a space), raw pieces
restore it: byte ranges of the decoded text that are replaced by the original bytes.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

_PIECE_CHARS = 512
# Later tokens may change the text of this many tokens before them: a character has up to 4 bytes,
# each of which may be a token.
_REACH = 4
# Tokens that are detokenized again with those that follow them.
_CONTEXT = 256
# Two raw pieces closer than this (characters) are cheaper stored as one.
_JOIN_GAP = 8


class Tokenizer(Protocol):
    """Interface of a model, as far as it is used here."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """Text."""


@dataclass(frozen=True)
class RawPiece:
    """Replaces `removed` bytes at byte `offset` of the decoded text by the bytes `data`."""

    offset: int
    removed: int
    data: bytes


@dataclass(frozen=True)
class TokenizedText:
    """A text as token ids, and the bytes that its tokenizer does not round-trip.

    Attributes:
        ids: all tokens.
        piece_tokens: tokens of each piece, which is detokenized on its own; sums to `len(ids)`.
        raw: raw pieces in order of their offsets, without overlap.
    """

    ids: list[int]
    piece_tokens: list[int]
    raw: list[RawPiece]


def tokenize(text: str, tokenizer: Tokenizer) -> TokenizedText:
    """Tokenize `text`, with the raw pieces that `detokenize` needs to restore it exactly."""
    ids = tokenizer.tokenize(text)
    decoded = tokenizer.detokenize(ids)
    start, end = _common_ends(decoded, text)
    if len(decoded) - start - end <= _JOIN_GAP:
        raw = [] if decoded == text else [_raw(0, decoded, text, start, end)]
        return TokenizedText(ids, [len(ids)] if ids else [], raw)
    return _tokenize_by_pieces(text, tokenizer)


def detokenize(
    ids: Sequence[int], piece_tokens: Sequence[int], raw: Sequence[RawPiece], tokenizer: Tokenizer
) -> bytes:
    """Restore the UTF-8 bytes of a text.

    Raises:
        ValueError: the raw pieces overlap or lie outside the decoded text.
    """
    decoded = bytearray()
    at = 0
    for count in piece_tokens:
        decoded += tokenizer.detokenize(ids[at : at + count]).encode("utf-8", "surrogatepass")
        at += count
    parts: list[bytes] = []
    position = 0
    for piece in raw:
        if not position <= piece.offset <= piece.offset + piece.removed <= len(decoded):
            raise ValueError("raw pieces overlap or lie outside the decoded text")
        parts += [bytes(decoded[position : piece.offset]), piece.data]
        position = piece.offset + piece.removed
    return b"".join([*parts, bytes(decoded[position:])])


def leading(
    text: TokenizedText, n: int, data: bytes, tokenizer: Tokenizer
) -> tuple[TokenizedText, bytes]:
    """Cut a text after its first tokens, between two characters.

    Args:
        text: the text as tokens.
        n: maximum tokens to keep.
        data: its bytes.
        tokenizer: of the text.

    Returns:
        As many of its first tokens as give the beginning of the text, and that beginning.
    """
    for kept in range(n, 0, -1):
        counts, left = [], kept
        for count in text.piece_tokens:
            counts += [min(count, left)] * (left > 0)
            left -= count
        ids = text.ids[:kept]
        size = len(detokenize(ids, counts, [], tokenizer))
        raw = [piece for piece in text.raw if piece.offset + piece.removed <= size]
        found = detokenize(ids, counts, raw, tokenizer)
        if data.startswith(found):
            return TokenizedText(ids, counts, raw), found
    return TokenizedText([], [], []), b""


class LeadingText:
    """Detokenizes a text from its first token on, as tokens arrive.

    What later tokens may change is held back, so that what `add` returns is the beginning of what
    `detokenize` returns for all tokens.

    Args:
        piece_tokens, raw, tokenizer: as for `detokenize`.
    """

    def __init__(
        self, piece_tokens: Sequence[int], raw: Sequence[RawPiece], tokenizer: Tokenizer
    ) -> None:
        self._tokenizer = tokenizer
        self._pieces = iter(piece_tokens)
        self._missing = next(self._pieces, 0)  # tokens of the current piece
        self._ids: list[int] = []  # of the current piece, without its first ones if it is long
        self._shown = 0  # characters of these that were returned
        self._raw = list(raw)
        self._at = 0  # bytes of the decoded text before the next raw piece is looked for
        self._removed = 0  # following bytes of the decoded text to leave out

    def add(self, ids: Sequence[int]) -> bytes:
        """Return the bytes that are certain after these further tokens, and not yet returned."""
        found = b""
        rest = list(ids)
        while rest and self._missing:
            taken, rest = rest[: self._missing], rest[self._missing :]
            self._ids += taken
            self._missing -= len(taken)
            found += self._replaced(self._certain())
            if not self._missing:
                self._missing = next(self._pieces, 0)
                self._ids, self._shown = [], 0
        return found

    def _certain(self) -> str:
        """Text of the current piece that no later token changes, and that was not returned."""
        text = self._tokenizer.detokenize(self._ids)
        if not self._missing:
            return text[self._shown :]
        before = self._tokenizer.detokenize(self._ids[:-_REACH])
        # The first bytes of a character show as U+FFFD.
        certain = before[: _common_prefix(before, text, min(len(before), len(text)))]
        shown, self._shown = self._shown, max(self._shown, len(certain.rstrip("\ufffd")))
        new = text[shown : self._shown]
        self._forget(text)
        return new

    def _forget(self, text: str) -> None:
        """Drop the first tokens of a long piece, if the text of the others is its end."""
        if len(self._ids) < 2 * _CONTEXT:
            return
        end = self._tokenizer.detokenize(self._ids[-_CONTEXT:])
        dropped = len(text) - len(end)
        if text.endswith(end) and dropped <= self._shown:
            self._ids = self._ids[-_CONTEXT:]
            self._shown -= dropped

    def _replaced(self, text: str) -> bytes:
        """Bytes of a text that follows the one before, with its raw pieces."""
        decoded = text.encode("utf-8", "surrogatepass")
        found = b""
        while True:
            skipped = min(self._removed, len(decoded))
            self._removed -= skipped
            self._at += skipped
            decoded = decoded[skipped:]
            if self._raw and self._raw[0].offset == self._at and not self._removed:
                piece = self._raw.pop(0)
                found += piece.data
                self._removed = piece.removed
                continue
            if not decoded:
                return found
            kept = len(decoded)
            if self._raw and self._raw[0].offset > self._at:
                kept = min(kept, self._raw[0].offset - self._at)
            found += decoded[:kept]
            self._at += kept
            decoded = decoded[kept:]


def _tokenize_by_pieces(text: str, tokenizer: Tokenizer) -> TokenizedText:
    ids: list[int] = []
    counts: list[int] = []
    raw: list[RawPiece] = []
    offset = 0
    for piece in _pieces(text):
        tokens = tokenizer.tokenize(piece)
        decoded = tokenizer.detokenize(tokens) if tokens else ""
        raw += _differences(offset, decoded, piece)
        if tokens:
            counts.append(len(tokens))
            ids += tokens
            offset += len(decoded.encode())
    return TokenizedText(ids, counts, _merge_empty(raw))


def _pieces(text: str) -> Iterator[str]:
    """Cut a text into pieces of up to `_PIECE_CHARS` characters, before white space if possible."""
    start = 0
    while start < len(text):
        end = min(start + _PIECE_CHARS, len(text))
        if end < len(text):
            cut = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = cut if cut > start else end
        yield text[start:end]
        start = end


def _differences(offset: int, decoded: str, text: str) -> list[RawPiece]:
    if decoded == text:
        return []
    spans: list[list[int]] = []
    for i1, i2, j1, j2 in _unequal(decoded, text):
        if spans and i1 - spans[-1][1] < _JOIN_GAP:
            spans[-1][1], spans[-1][3] = i2, j2
        else:
            spans.append([i1, i2, j1, j2])
    return [
        RawPiece(
            offset + len(decoded[:i1].encode()), len(decoded[i1:i2].encode()), text[j1:j2].encode()
        )
        for i1, i2, j1, j2 in spans
    ]


def _unequal(decoded: str, text: str) -> Iterator[tuple[int, int, int, int]]:
    """List ranges i1:i2 of `decoded` to replace by ranges j1:j2 of `text`, in order."""
    n = len(decoded)
    if n not in (len(text), len(text.strip())):
        matcher = difflib.SequenceMatcher(None, decoded, text, autojunk=False)
        yield from (op[1:] for op in matcher.get_opcodes() if op[0] != "equal")
        return
    # Case or single characters changed, or the ends stripped: compare position by position, in
    # linear time; SequenceMatcher takes at least quadratic time.
    lead = 0 if n == len(text) else len(text) - len(text.lstrip())
    if lead:
        yield 0, 0, 0, lead
    for i in range(n):
        if decoded[i] != text[lead + i]:
            yield i, i + 1, lead + i, lead + i + 1
    if lead + n < len(text):
        yield n, n, lead + n, len(text)


def _merge_empty(raw: list[RawPiece]) -> list[RawPiece]:
    """Join adjacent raw pieces, such as those of pieces without any token."""
    merged: list[RawPiece] = []
    for piece in raw:
        last = merged[-1] if merged else None
        if last is not None and last.offset + last.removed == piece.offset:
            merged[-1] = RawPiece(last.offset, last.removed + piece.removed, last.data + piece.data)
        else:
            merged.append(piece)
    return merged


def _common_ends(a: str, b: str) -> tuple[int, int]:
    """Measure the common prefix of `a` and `b`, and the common suffix of the rest."""
    if a == b:
        return len(a), 0
    shorter = min(len(a), len(b))
    start = _common_prefix(a, b, shorter)
    end = _common_prefix(a[::-1], b[::-1], shorter - start)
    return start, end


def _common_prefix(a: str, b: str, limit: int) -> int:
    low, high = 0, limit
    while low < high:  # bisection on slices runs at the speed of memory comparison
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _raw(offset: int, decoded: str, text: str, start: int, end: int) -> RawPiece:
    removed = decoded[start : len(decoded) - end]
    inserted = text[start : len(text) - end]
    return RawPiece(
        offset + len(decoded[:start].encode()), len(removed.encode()), inserted.encode()
    )
