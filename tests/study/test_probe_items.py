"""Multiple-choice items: both formats of the harness, and hostile files."""

import json
from pathlib import Path

import pytest

from memcram.errors import UsageError
from memcram.study import probe_items
from memcram.study.probe_items import read_items

ITEMS = Path(__file__).parents[2] / "benchmarks" / "specs" / "probe-items.jsonl"
HELLASWAG = {"ctx": "He", "endings": ["runs", "[header] sits [title] down"], "label": "1"}
ARC = {"question": "Why?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}


def written(folder, *lines):
    path = folder / "items.jsonl"
    shown = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(shown), encoding="utf-8", newline="")
    return path


def test_packaged_items_are_read():
    items = read_items(ITEMS)
    assert len(items) == 8
    assert [len(item.choices) for item in items] == [4, 4, 4, 4, 4, 4, 3, 4]
    assert sorted({item.answer for item in items}) == [0, 1, 2, 3]
    # Made of its parts and cleaned, as the harness does.
    assert items[3].context == "Cleaning a window: A man sprays soap on the glass. He"
    assert items[3].choices[3] == "wipes it dry with a cloth. "
    assert items[4].context == "Question: Which of these is needed to make ice?\nAnswer:"


def test_both_formats(tmp_path):
    first, second = read_items(written(tmp_path, HELLASWAG, "", ARC))
    assert first == probe_items.Item("He", ("runs", " sits. down"), 1)
    assert second == probe_items.Item("Question: Why?\nAnswer:", ("a", "b"), 1)


def test_line_ends_and_bom_of_other_systems(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ARC).encode() + b"\r\n")
    assert len(read_items(path)) == 1


WRONG = {
    "not JSON": ("{", "not JSON"),
    "NaN label": ('{"ctx": "a", "endings": ["a", "b"], "label": NaN}', "label: got nan"),
    "a number": ("3", "not a JSON object"),
    "many digits": ("1" * 5000, "not JSON"),
    "nested deeply": ("[" * 100_000, "nested too deeply"),
    "neither format": ({"text": "a"}, "neither 'endings' (HellaSwag) nor 'question' (ARC)"),
    "no context": ({**HELLASWAG, "ctx": None}, "ctx: got None, allowed: a text"),
    "blank context": ({**HELLASWAG, "ctx": " "}, "an empty context or choice"),
    "one ending": ({**HELLASWAG, "endings": ["a"]}, "endings: not a list of 2 to 26 texts"),
    "many endings": ({**HELLASWAG, "endings": ["a"] * 27}, "endings: not a list of 2 to 26"),
    "an ending of only marks": ({**HELLASWAG, "endings": ["a", "[x]"]}, "an empty context or"),
    "an ending that is a list": ({**HELLASWAG, "endings": ["a", []]}, "endings: got []"),
    "no label": ({**HELLASWAG, "label": ""}, "label: got '', allowed: 0 to 1"),
    "a label beyond": ({**HELLASWAG, "label": 2}, "label: got 2, allowed: 0 to 1"),
    "a negative label": ({**HELLASWAG, "label": -1}, "label: got -1, allowed: 0 to 1"),
    "a true label": ({**HELLASWAG, "label": True}, "label: got True, allowed: 0 to 1"),
    "another script's digit": ({**HELLASWAG, "label": "١"}, "label: got '١', allowed"),
    "half a surrogate": ({**HELLASWAG, "ctx": "\ud800"}, "ctx: half of a surrogate pair"),
    "a long context": ({**HELLASWAG, "ctx": "a" * 20_001}, "ctx: 20,001 characters, allowed"),
    "choices as a list": ({**ARC, "choices": ["a", "b"]}, "choices: not an object"),
    "fewer labels": (
        {**ARC, "choices": {"text": ["a", "b", "c"], "label": ["1", "2"]}},
        "does not have a different label",
    ),
    "equal labels": (
        {**ARC, "choices": {"text": ["a", "b"], "label": ["1", "1"]}},
        "does not have a different label",
    ),
    "a key that is no label": ({**ARC, "answerKey": "C"}, "answerKey: got 'C', allowed: a label"),
    "a key that is a list": ({**ARC, "answerKey": ["1"]}, "answerKey: got ['1']"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_line_is_named_in_one_line(case, tmp_path):
    line, says = WRONG[case]
    path = written(tmp_path, ARC, line)
    with pytest.raises(UsageError) as raised:
        read_items(path)
    assert str(raised.value).startswith(f"items: line 2 of {str(path)!r}: ")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_wrong_files(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"^items: .*none' can't be read"):
        read_items(tmp_path / "none")
    with pytest.raises(UsageError, match="can't be read"):
        read_items(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8"):
        read_items(tmp_path / "binary")
    with pytest.raises(UsageError, match="has 0 items, allowed: 1 to 20,000"):
        read_items(written(tmp_path, "", " "))
    path = written(tmp_path, ARC, ARC)
    monkeypatch.setattr(probe_items, "MAX_ITEMS", 1)
    with pytest.raises(UsageError, match="has 2 items, allowed: 1 to 1"):
        read_items(path)
    monkeypatch.setattr(probe_items, "_MAX_BYTES", 10)
    with pytest.raises(UsageError, match=r"has \d+ bytes, allowed: at most 10"):
        read_items(path)
