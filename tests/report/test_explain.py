"""The per-token page: what it says, and that no text can break out of it."""

import json
import re
from html.parser import HTMLParser

import pytest
import torch

import memcram
import plausible
import tiny
from memcram.report import explain

HOSTILE = "</script><script>alert(1)</script><!--\x00\u202eabc\u2028&amp;\ud800"


class Page(HTMLParser):
    """Elements of a page, the JSON of its data element, and the shown tokens."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.attributes, self.tokens, self.json = [], [], [], ""
        self._at, self._depth = None, 0
        self.feed(content.decode())
        self.data = json.loads(self.json)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.attributes.append(attributes)
        if tag == "span" and "tabindex" in attributes:
            self.tokens.append([attributes["class"].split(), ""])
            self._at = "token"
        elif attributes.get("id") == "data":
            self._at = "data"

    def handle_endtag(self, tag):
        if tag in ("span", "script"):
            self._at = None

    def handle_data(self, data):
        if self._at == "token":
            self.tokens[-1][1] += data
        elif self._at == "data":
            self.json += data


def view(pieces, **changes):
    n = len(pieces)
    fields = {
        "title": "A text",
        "facts": {"model": "m"},
        "pieces": pieces,
        "margins": [1.0] * n,
        "lm_nats": [None] + [2.0] * (n - 1),
        "mem_nats": [0.1] * n,
        "mem_ranks": [0] * n,
        "lm_ranks": [None] + [3] * (n - 1),
        "learned": [5] * n,
        "horizon": n,
    }
    return explain.TokenView(**(fields | changes))


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (" the", "␣the"),
        ("\r\n", "\\x0d⏎"),
        ("\t", "⇥"),
        ("", "·"),
        ("\x00", "\\x00"),
        ("\u202e", "\\u202e"),
        ("\u00a0", "\\xa0"),
        ("\U000e0001", "\\U000e0001"),
        ("\u0301a", "◌\u0301a"),
        ("<b>", "<b>"),
        ("שלום", "שלום"),
    ],
)
def test_nothing_is_invisible(piece, shown):
    assert explain.visible(piece) == shown


def test_hostile_text_stays_text():
    content = explain.explain_page(
        view(["a", HOSTILE, "b"], title=HOSTILE, facts={HOSTILE: HOSTILE})
    )
    page = Page(content)
    assert page.tags.count("script") == 2  # the data and the page's own
    assert [text for _, text in page.tokens] == ["a", explain.visible(HOSTILE), "b"]
    assert page.data["pieces"][1] == explain.visible(HOSTILE)
    assert "\x00" not in content.decode()
    assert "\u202e" not in content.decode().split("<body>")[1].split("<div id")[1]


def test_a_page_loads_nothing():
    content = explain.explain_page(view(["a", " b"])).decode()
    assert not re.search(r"(src|href)=|@import|url\(|fetch\(|https?:", content)


def test_levels_and_marks():
    found = Page(
        explain.explain_page(
            view(
                list("abcd"),
                margins=[-0.5, 0.05, 5.0, None],
                lm_nats=[None, 0.2, 3.0, 20.0],
                corrected=frozenset({0}),
                guarded=frozenset({1}),
                chunk_starts=frozenset({2}),
            )
        )
    )
    classes = [classes[1:] for classes, _ in found.tokens]
    assert classes == [
        ["m0", "snone", "corrected"],
        ["m1", "s0", "guarded"],
        ["m5", "s3", "chunk"],
        ["mnone", "s5"],
    ]
    assert found.data["corrected"] == [0]
    assert found.data["margins"] == [-0.5, 0.05, 5.0, None]


def test_tokens_can_be_reached_by_keyboard():
    page = Page(explain.explain_page(view(list("abc"))))
    stops = [a["tabindex"] for a in page.attributes if "tabindex" in a]
    assert stops == ["0", "-1", "-1"]
    slider = next(a for a in page.attributes if a.get("type") == "range")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "3", "3")


def test_a_row_of_a_study():
    rows, records = plausible.study(samples=2, vectors=(1,), models=("pocket",))
    row = rows[(rows["kind"] == "capacity") & (rows["accuracy"] < 0.9)].iloc[0].to_dict()
    record = records[row["task"]]
    pieces = plausible.pieces("pocket", record.ids.tolist())
    found = explain.view_of_record(row, record, pieces)
    assert found.horizon == row["horizon"]
    assert found.lm_nats[0] is None
    assert found.margins == pytest.approx(record.margins.tolist())
    never = [step is None for step in found.learned]
    assert never == (record.learned_step < 0).tolist()
    assert f"{row['n_right']} of {row['n_counted']} tokens" in found.facts.values()
    untouched = explain.view_of_record(row | {"outcome": "", "steps": 0}, record, pieces)
    assert untouched.facts["outcome"] == "nothing was optimised"


class Words:
    """A tokenizer of the SentencePiece kind: a space belongs to a word, but not at the start."""

    words = (" one", " two", "!")

    def __call__(self, ids):
        return "".join(self.words[i] for i in ids).removeprefix(" ")


def test_pieces_join_to_the_text():
    ids = [0, 1, 1, 2, 0, 0, 1, 2, 2, 0, 1, 0]
    assert explain.token_pieces(Words(), ids)[:4] == ["one", " two", " two", "!"]
    assert "".join(explain.token_pieces(Words(), ids)) == Words()(ids)


def test_a_character_of_several_tokens_is_in_the_last_of_them():
    tokenizer = tiny.byte_tokenizer()
    text = "aé🙂b\n"
    ids = tokenizer.encode(text).ids
    pieces = explain.token_pieces(tokenizer.decode, ids)
    assert pieces == ["a", "", "é", "", "", "", "🙂", "b", "\n"]


@pytest.fixture(scope="module")
def archive(tiny_lm):
    """Two steps on random weights: most tokens are missed."""
    return memcram.compress("The harbour.\nNo lamp.", tiny_lm, chunk_tokens=7, steps=2)


def test_an_archive(archive, tiny_lm):
    found = explain.view_of_archive(archive, tiny_lm, "note")
    assert "".join(found.pieces) == "The harbour.\nNo lamp."
    assert found.chunk_starts == {7, 14}
    assert found.corrected == set(archive.tensors.correction_positions.tolist())
    assert found.guarded == set(archive.tensors.guard_positions.tolist())
    # Decoding misses exactly the tokens whose margin is not positive.
    missed = {i for i, margin in enumerate(found.margins) if margin <= 0}
    assert missed == found.corrected != set()
    assert found.horizon == min(missed)
    unknown = {i for i, nats in enumerate(found.lm_nats) if nats is None}
    assert unknown == {0, 7, 14}
    assert found.learned == [None] * 21
    right = torch.tensor([rank == 0 for rank in found.mem_ranks])
    assert right.tolist() == [margin > 0 for margin in found.margins]
