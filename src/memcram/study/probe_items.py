"""Read multiple-choice items in the JSONL formats of lm-evaluation-harness: HellaSwag and ARC."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memcram.errors import UsageError
from memcram.files import reading
from memcram.models.frozen_lm import FrozenLM

MAX_ITEMS = 20_000
MAX_CHOICES = 26
_MAX_BYTES = 2**26
_MAX_CHARACTERS = 20_000  # of a question or a choice


class _ItemError(Exception):
    """What is wrong with one item."""


@dataclass(frozen=True)
class Item:
    """One multiple-choice item.

    Attributes:
        context: what the model reads first.
        choices: continuations to compare; each follows the context after a space.
        answer: index of the correct one.
    """

    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class TokenizedItem:
    """One item in tokens.

    Attributes:
        context: (n,) ids of the context, one or more.
        choices: (m,) ids of each choice, one or more.
        characters: of each choice, for length normalisation.
        answer: index of the correct choice.
    """

    context: Tensor
    choices: tuple[Tensor, ...]
    characters: tuple[int, ...]
    answer: int

    @property
    def n_tokens(self) -> int:
        """Tokens of the context with the longest choice."""
        return len(self.context) + max(map(len, self.choices))


def read_items(path: Path) -> tuple[Item, ...]:
    """Read items, one JSON object per line.

    HellaSwag: `ctx`, `endings`, `label`; where `activity_label`, `ctx_a` and `ctx_b` are given too,
    the context is made of them, as in the harness. ARC: `question`, `choices` with `text` and
    `label`, `answerKey`.

    Args:
        path: the file.

    Raises:
        UsageError: it can't be read, is too large, or a line is not an item; names the line.
    """
    with reading(path, "items", UsageError):
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise UsageError(
                f"{str(path)!r} has {path.stat().st_size:,} bytes",
                argument="items",
                allowed=f"at most {_MAX_BYTES:,}",
            )
        text = path.read_bytes().decode("utf-8-sig")
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(_item(line))
            except _ItemError as error:
                problem = f"line {number} of {str(path)!r}: {error}"
                raise UsageError(problem, argument="items") from error
    if not 1 <= len(found) <= MAX_ITEMS:
        problem = f"{str(path)!r} has {len(found):,} items"
        raise UsageError(problem, argument="items", allowed=f"1 to {MAX_ITEMS:,}")
    return tuple(found)


def tokenize_items(lm: FrozenLM, items: Sequence[Item], room: int | None) -> list[TokenizedItem]:
    """Tokenize items; context and choice together, so that tokens may span a space.

    Args:
        lm: the model.
        items: to tokenize.
        room: maximum tokens of a context with a choice; None without a limit.

    Raises:
        UsageError: an item has too many tokens for the model, or a choice has none.
    """
    found = []
    for number, item in enumerate(items, 1):
        context = lm.tokenize(item.context)
        choices = [lm.tokenize(f"{item.context} {one}")[len(context) :] for one in item.choices]
        if not context or not all(choices):
            problem = f"item {number} has no tokens in its context or a choice"
            raise UsageError(problem, argument="items")
        one = TokenizedItem(
            torch.tensor(context),
            tuple(map(torch.tensor, choices)),
            tuple(map(len, item.choices)),
            item.answer,
        )
        if room is not None and one.n_tokens > room:
            problem = f"item {number} has {one.n_tokens} tokens"
            raise UsageError(problem, argument="items", allowed=f"at most {room} for the model")
        found.append(one)
    return found


def digest(items: Sequence[TokenizedItem]) -> str:
    """Return 32 hex digits of SHA-256 over the tokens, characters and answers of items."""
    content = [
        [one.context.tolist(), [c.tolist() for c in one.choices], one.characters, one.answer]
        for one in items
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _item(line: str) -> Item:
    """Parse one line.

    Raises:
        _ItemError: says what is wrong.
    """
    try:
        found = json.loads(line)
    except RecursionError as error:
        raise _ItemError("nested too deeply") from error
    except ValueError as error:
        raise _ItemError(f"not JSON ({error})") from error
    if not isinstance(found, dict):
        raise _ItemError("not a JSON object")
    if "endings" in found:
        return _hellaswag(found)
    if "question" in found:
        return _arc(found)
    raise _ItemError("has neither 'endings' (HellaSwag) nor 'question' (ARC)")


def _hellaswag(found: Mapping[str, Any]) -> Item:
    choices = tuple(map(_cleaned, _texts(found, "endings")))
    label = found.get("label")
    number = str(label) if isinstance(label, int | str) and not isinstance(label, bool) else ""
    if not re.fullmatch(r"\d{1,3}", number, re.ASCII) or int(number) >= len(choices):
        raise _ItemError(f"label: got {_short(label)}, allowed: 0 to {len(choices) - 1}")
    if all(name in found for name in ("activity_label", "ctx_a", "ctx_b")):
        activity, first, second = (
            _text(found[name], name) for name in ("activity_label", "ctx_a", "ctx_b")
        )
        context = f"{activity}: {first} {second.capitalize()}"
    else:
        context = _text(found.get("ctx"), "ctx")
    return _checked(_cleaned(context), choices, int(number))


def _arc(found: Mapping[str, Any]) -> Item:
    given = found.get("choices")
    if not isinstance(given, dict):
        raise _ItemError("choices: not an object with 'text' and 'label'")
    choices, labels = _texts(given, "text"), _texts(given, "label")
    key = found.get("answerKey")
    if len(labels) != len(choices) or len(set(labels)) != len(labels):
        raise _ItemError("choices: 'label' does not have a different label for each 'text'")
    if not isinstance(key, str) or key not in labels:
        raise _ItemError(f"answerKey: got {_short(key)}, allowed: a label of its choices")
    question = _text(found["question"], "question")
    return _checked(f"Question: {question}\nAnswer:", choices, labels.index(key))


def _checked(context: str, choices: tuple[str, ...], answer: int) -> Item:
    if not context.strip() or not all(one.strip() for one in choices):
        raise _ItemError("an empty context or choice")
    return Item(context.rstrip(), choices, answer)


def _cleaned(text: str) -> str:
    """Clean a text of HellaSwag as the harness does: WikiHow has marks in square brackets."""
    plain = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return plain.replace("  ", " ")


def _texts(found: Mapping[str, Any], name: str) -> tuple[str, ...]:
    given = found.get(name)
    if not isinstance(given, list) or not 2 <= len(given) <= MAX_CHOICES:
        raise _ItemError(f"{name}: not a list of 2 to {MAX_CHOICES} texts")
    return tuple(_text(one, name) for one in given)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise _ItemError(f"{name}: got {_short(value)}, allowed: a text")
    if len(value) > _MAX_CHARACTERS:
        raise _ItemError(f"{name}: {len(value):,} characters, allowed: at most {_MAX_CHARACTERS:,}")
    if re.search("[\ud800-\udfff]", value):
        raise _ItemError(f"{name}: half of a surrogate pair")
    return value


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
