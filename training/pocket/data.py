"""Turn a folder of .txt files into one packed array of tokens, and cut windows from it.

    books ─► cleaned text ─► split (whole books) ─► tokenizer ─► packed uint16 array ─► windows

Everything here is a pure function of the texts and a seed, so a resumed run reads exactly the
tokens that the killed run would have read next.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

BOS = "<|bos|>"
BOS_ID = 0
ENCODE_AT_ONCE = 200_000  # characters; long strings cost the encoder memory, not time

_START = re.compile(r"^\*\*\* ?START OF.*$", re.MULTILINE)
_END = re.compile(r"^\*\*\* ?END OF.*$", re.MULTILINE)


def clean(text: str) -> str:
    """Write one paragraph per line, without the Project Gutenberg header and footer.

    A text with blank lines is treated as hard-wrapped (a blank line ends a paragraph); a text
    without any already has one paragraph per line.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    if (start := _START.search(text)) is not None:
        text = text[start.end() :]
    if (end := _END.search(text)) is not None:
        text = text[: end.start()]
    wrapped = re.search(r"\n[ \t]*\n", text) is not None
    paragraphs = re.split(r"\n\s*\n", text) if wrapped else text.split("\n")
    lines = (" ".join(paragraph.split()) for paragraph in paragraphs)
    return "\n".join(line for line in lines if line) + "\n"


@dataclass(frozen=True)
class Split:
    """Names of the training books and of the books held out whole for the validation curve."""

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]


def split_books(folder: Path, held_out: int, seed: int) -> Split:
    """Hold out `held_out` whole books of the .txt files in `folder`.

    The choice hashes the file name, so adding a book does not reshuffle the others.

    Raises:
        ValueError: fewer than `held_out` + 1 books.
    """
    books = sorted(folder.glob("*.txt"))
    if len(books) <= held_out:
        raise ValueError(f"{folder}: {len(books)} .txt files, needs more than held_out={held_out}")

    def key(path: Path) -> str:
        return hashlib.sha256(f"{seed}/{path.name}".encode()).hexdigest()

    out = set(sorted(books, key=key)[:held_out])
    return Split(tuple(b for b in books if b not in out), tuple(sorted(out)))


def read_books(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the cleaned texts, one per book."""
    for path in paths:
        yield clean(path.read_text(encoding="utf-8", errors="replace"))


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer with `vocabulary` entries; id 0 is BOS, end and padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line for text in texts for line in text.split("\n")), trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json as `AutoTokenizer` expects them."""
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=BOS,
        pad_token=BOS,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Token ids of one book, uint16, cut between paragraphs so that memory stays small."""
    pieces: list[str] = []
    size = 0
    ids: list[int] = []
    for line in text.splitlines(keepends=True):
        pieces.append(line)
        size += len(line)
        if size >= ENCODE_AT_ONCE:
            ids += tokenizer.encode("".join(pieces), add_special_tokens=False).ids
            pieces, size = [], 0
    ids += tokenizer.encode("".join(pieces), add_special_tokens=False).ids
    return np.asarray(ids, dtype=np.uint16)


def pack(tokenizer: Tokenizer, paths: Iterable[Path]) -> np.ndarray:
    """Concatenate all books, BOS before each, into one uint16 array."""
    parts: list[np.ndarray] = []
    for text in read_books(paths):
        parts += [np.asarray([BOS_ID], dtype=np.uint16), encode(tokenizer, text)]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Corpus:
    """Packed tokens of the training books, and of the held-out ones."""

    train: np.ndarray
    held_out: np.ndarray
    train_books: int
    held_out_books: int


def prepare(tokenizer: Tokenizer, split: Split, cache: Path) -> Corpus:
    """Pack both sides of the split, or memory-map the arrays that an earlier run cached."""
    names = {"train": split.train, "held_out": split.held_out}
    identity = hashlib.sha256(tokenizer.to_str().encode())
    for side, paths in names.items():
        identity.update(json.dumps([side, [(p.name, p.stat().st_size) for p in paths]]).encode())
    stem = identity.hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for side, paths in names.items():
        file = cache / f"{stem}-{side}.npy"
        if not file.exists():
            partial = file.with_suffix(".partial")
            with partial.open("wb") as out:
                np.save(out, pack(tokenizer, paths), allow_pickle=False)
            partial.replace(file)
        arrays[side] = np.load(file, mmap_mode="r", allow_pickle=False)
    return Corpus(arrays["train"], arrays["held_out"], len(split.train), len(split.held_out))


@dataclass(frozen=True)
class Windows:
    """Windows of a packed array, in an order that depends on the seed and the position alone.

    An epoch shifts the grid of windows by a random phase and permutes it; every second window
    begins with BOS, so that the model learns to start a text with BOS and without.
    """

    tokens: np.ndarray
    seed: int

    def batch(self, position: int, rows: int, length: int) -> Tensor:
        """Int64 ids of shape (rows, length + 1), from token `position` of the endless stream.

        `position` counts predicted tokens; a batch predicts rows · length of them.

        Raises:
            ValueError: the packed array is shorter than two windows.
        """
        per_epoch = len(self.tokens) // length - 1
        if per_epoch < 1:
            raise ValueError(f"{len(self.tokens)} tokens are too few for windows of {length}")
        first = position // length
        out = np.empty((rows, length + 1), dtype=np.int64)
        for row in range(rows):
            epoch, index = divmod(first + row, per_epoch)
            phase, order = _epoch(self.seed, epoch, per_epoch, length)
            start = phase + int(order[index]) * length
            out[row] = self.tokens[start : start + length + 1]
            if row % 2 == 0:
                out[row, 1:] = out[row, :-1].copy()
                out[row, 0] = BOS_ID
        return torch.from_numpy(out)


_EPOCHS: dict[tuple[int, int, int, int], tuple[int, np.ndarray]] = {}


def _epoch(seed: int, epoch: int, windows: int, length: int) -> tuple[int, np.ndarray]:
    """Phase and window order of one epoch; cached, because every batch needs them."""
    key = (seed, epoch, windows, length)
    if key not in _EPOCHS:
        if len(_EPOCHS) > 8:
            _EPOCHS.clear()
        generator = np.random.default_rng([seed, epoch, length])
        _EPOCHS[key] = (int(generator.integers(0, length)), generator.permutation(windows))
    return _EPOCHS[key]
