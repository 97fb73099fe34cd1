"""Make the per-token page of a text, as HTML, from a row of a study or from an archive."""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor

from memcram.archive import Archive
from memcram.compression.chunks import OnProgress
from memcram.compression.verify import decode_chunks
from memcram.models.decoding import Decoded
from memcram.models.frozen_lm import FrozenLM
from memcram.models.scoring import score
from memcram.report.html import render
from memcram.study.results import TokenRecord

# Upper ends of the colour levels; a margin up to 0 is a miss.
MARGIN_LEVELS = (0.0, 0.1, 0.3, 1.0, 3.0)  # logits
SURPRISAL_LEVELS = (0.5, 1.0, 2.0, 4.0, 8.0)  # nats
_WINDOW = 8  # tokens of context that decide how the next one is written
_NAMES = {" ": "␣", "\n": "⏎", "\t": "⇥"}


@dataclass(frozen=True)
class TokenView:
    """Content of a text's page; lists have one entry per token, None where it is unknown.

    Attributes:
        title: heading.
        facts: names and values, shown above the text.
        pieces: text of each token; empty for a token that ends inside a character.
        margins: logits, with `[mem]`.
        lm_nats, mem_nats: −log p under the bare LM and with `[mem]`.
        mem_ranks, lm_ranks: rank of the true token, 0 for the argmax.
        learned: the step since which the token has been correct.
        corrected, guarded: positions (from 0) of the archive's corrections and guards.
        chunk_starts: positions of the first tokens of chunks after the first.
        horizon: initial position of the slider.
    """

    title: str
    facts: Mapping[str, Any]
    pieces: Sequence[str]
    margins: Sequence[float | None]
    lm_nats: Sequence[float | None]
    mem_nats: Sequence[float | None]
    mem_ranks: Sequence[int | None]
    lm_ranks: Sequence[int | None]
    learned: Sequence[int | None]
    horizon: int
    corrected: frozenset[int] = frozenset()
    guarded: frozenset[int] = frozenset()
    chunk_starts: frozenset[int] = frozenset()


def view_of_record(row: Mapping[str, Any], record: TokenRecord, pieces: Sequence[str]) -> TokenView:
    """Create the view of one row of a study.

    Args:
        row: columns of `ResultRow`.
        record: its tokens.
        pieces: text of each token.
    """
    facts = {
        "model": row["model"],
        "recipe": row["recipe"],
        "vectors": row["vectors"],
        "tokens": row["tokens"],
        "source": f"{row['source']}, {row['origin']} from character {row['offset']:,}",
        "outcome": f"{row['outcome']} after {row['steps']:,} steps"
        if row["outcome"]
        else "nothing was optimised",
        "correct under teacher forcing": f"{row['n_right']} of {row['n_counted']} tokens",
        "horizon (free-running)": f"{row['horizon']} tokens"
        + (", the whole text" if row["exact"] else ", censored" if row["censored"] else ""),
    }
    return TokenView(
        title=f"{row['text_id']}, token by token",
        facts=facts,
        pieces=pieces,
        margins=_floats(record.margins),
        lm_nats=_floats(record.lm_nats),
        mem_nats=_floats(record.mem_nats),
        mem_ranks=_whole(record.mem_ranks),
        lm_ranks=_whole(record.lm_ranks),
        learned=_whole(record.learned_step),
        horizon=int(row["horizon"]),
    )


def view_of_archive(
    archive: Archive, lm: FrozenLM, name: str, on_progress: OnProgress | None = None
) -> TokenView:
    """Create the view of an archive, decoding each chunk.

    Args:
        archive: the archive.
        lm: its model.
        name: of the archive, for the heading.
        on_progress: called as chunks are decoded.

    Raises:
        ArchiveError: made with another model.
    """
    found = dict(decode_chunks(archive, lm, on_progress))
    return view_of_decoded(archive, lm, name, [found[i] for i in range(len(found))])


def view_of_decoded(
    archive: Archive, lm: FrozenLM, name: str, decoded: Sequence[Decoded]
) -> TokenView:
    """Create the view of an archive whose chunks have been decoded along its corrections."""
    ids = [one.ids for one in decoded]
    bare, with_mem = score(lm, ids), score(lm, ids, archive.mems)
    joined = [token for chunk in ids for token in chunk.tolist()]
    made, found = archive.manifest, archive.summary()
    starts = list(accumulate(archive.chunk_tokens))[:-1]
    missed = archive.tensors.correction_positions.tolist()
    return TokenView(
        title=f"{name}, token by token",
        facts={
            "model": made.model.id,
            "recipe": made.recipe.get("name", "-"),
            "vectors": f"{found['vectors']} in {found['chunks']} chunks",
            "tokens": made.text.tokens,
            "corrections": found["tokens_corrected"],
            "guards": found["tokens_guarded"],
        },
        pieces=token_pieces(lm.detokenize, joined),
        margins=[value for one in decoded for value in _floats(one.margins)],
        lm_nats=[value for one in bare for value in _first_unknown(_floats(one.nats))],
        mem_nats=[value for one in with_mem for value in _floats(one.nats)],
        mem_ranks=[value for one in with_mem for value in _whole(one.ranks)],
        lm_ranks=[value for one in bare for value in _first_unknown(_whole(one.ranks))],
        learned=[None] * len(joined),
        horizon=missed[0] if missed else len(joined),
        corrected=frozenset(missed),
        guarded=frozenset(archive.tensors.guard_positions.tolist()),
        chunk_starts=frozenset(starts),
    )


def _first_unknown(values: list[Any]) -> list[Any]:
    """The bare LM has no prediction for the first token of a chunk."""
    return [None, *values[1:]]


def _floats(values: Tensor) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in values.double().tolist()]


def _whole(values: Tensor) -> list[int | None]:
    return [None if x < 0 else int(x) for x in values.long().tolist()]


def token_pieces(detokenize: Callable[[Sequence[int]], str], ids: Sequence[int]) -> list[str]:
    """Text that each token adds to the tokens before it.

    A tokenizer may write a token differently at the start of a text, and one character as several
    tokens; then the last of them carries it and those before are empty.
    """
    pieces = []
    for place in range(len(ids)):
        before = detokenize(ids[max(0, place - _WINDOW) : place]) if place else ""
        whole = detokenize(ids[max(0, place - _WINDOW) : place + 1])
        # An unfinished character is written as U+FFFD until its last token is there.
        known, new = before.rstrip("\ufffd"), whole.rstrip("\ufffd")
        if new.startswith(known):
            pieces.append(new[len(known) :])
        else:
            pieces.append(detokenize(ids[place : place + 1]))
    return pieces


def visible(piece: str) -> str:
    """Write out the invisible characters of a token's text.

    Spaces, line breaks and tabs get a sign; control, format and unassigned characters (NUL, marks
    of writing direction) an escape; a combining mark at the start gets a circle as its base.

    >>> visible(" a")
    '␣a'
    >>> visible(chr(0) + chr(0x202E))
    '\\\\x00\\\\u202e'
    """
    if not piece:
        return "·"
    shown = []
    for place, character in enumerate(piece):
        category = unicodedata.category(character)
        if character in _NAMES:
            shown.append(_NAMES[character])
        elif category[0] in "CZ":
            shown.append(_escaped(ord(character)))
        elif place == 0 and category[0] == "M":
            shown.append("◌" + character)
        else:
            shown.append(character)
    return "".join(shown)


def _escaped(code: int) -> str:
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def explain_page(view: TokenView, home: str | None = None) -> bytes:
    """Render the page as one HTML file that loads nothing.

    Args:
        view: what to show.
        home: path of the report relative to the page; None without a report.
    """
    data = {
        "pieces": [visible(piece) for piece in view.pieces],
        "margins": _rounded(view.margins),
        "lm": _rounded(view.lm_nats),
        "mem": _rounded(view.mem_nats),
        "rank": view.mem_ranks,
        "lmRank": view.lm_ranks,
        "learned": view.learned,
        "corrected": sorted(view.corrected),
        "guarded": sorted(view.guarded),
    }
    return render(
        "explain.html.j2",
        view=view,
        tokens=marked_tokens(view),
        data=data,
        home=home,
        **legends(),
    )


def legends() -> dict[str, Any]:
    """Words for the colour levels, by the name that templates use."""
    return {
        "margin_levels": _ranges(MARGIN_LEVELS),
        "surprisal_levels": _ranges(SURPRISAL_LEVELS),
    }


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if x is None else float(f"{x:.4g}") for x in values]


def marked_tokens(view: TokenView) -> list[dict[str, Any]]:
    """Text of each token, its classes in `tokens.css`, and whether a line ends there."""
    tokens = []
    for place, piece in enumerate(view.pieces):
        classes = [
            f"m{_level(view.margins[place], MARGIN_LEVELS)}",
            f"s{_level(view.lm_nats[place], SURPRISAL_LEVELS)}",
        ]
        classes += ["corrected"] if place in view.corrected else []
        classes += ["guarded"] if place in view.guarded else []
        classes += ["chunk"] if place in view.chunk_starts else []
        tokens.append(
            {"text": visible(piece), "classes": " ".join(classes), "breaks": "\n" in piece}
        )
    return tokens


def _level(value: float | None, ends: Sequence[float]) -> str:
    if value is None:
        return "none"
    return str(sum(value > end for end in ends))


def _ranges(ends: Sequence[float]) -> list[str]:
    """Words for the levels between `ends`."""
    between = [f"{low:g} to {high:g}" for low, high in pairwise(ends)]
    first = "≤ 0: missed" if ends[0] == 0 else f"up to {ends[0]:g}"
    return [first, *between, f"over {ends[-1]:g}"]
