"""Whatever Unicode text goes in comes out, byte for byte."""

import difflib

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import memcram
import tiny
from memcram import Archive, CramRequest, Engine
from memcram.archive.pieces import detokenize, tokenize

UNICODE = st.text(min_size=1, max_size=24)
HOSTILE = {
    "nul": "a\0b\0\0",
    "controls": "".join(map(chr, range(32))) + "\x7f\x80\x85\x9f",
    "crlf": "one\r\ntwo\rthree\n\r\n",
    "zero-width joiners": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "combining marks": "e\u0301 a\u0323\u0302 Z̸̡̛͔a̴͕l̶̢g̵o",
    "composed and decomposed": "Å Å Å ﬁ İ ǅ",
    "right to left": "שלום \u202eabc\u202c مرحبا \u200f1 2\u200e",
    "special token of pocket": "<|bos|>",
    "special token inside": "a<|bos|><|bos|> b <|bos|",
    "special token of others": "<s></s><|endoftext|><unk>[MASK]",
    "white space": " \t\n \u00a0\u2003\u3000 ",
    "a lone newline": "\n",
    "a lone space": " ",
    "byte order mark": "\ufeffhello\ufeff",
    "noncharacters": "\ufffe\uffff\U0010ffff\U0001fffe",
    "private use": "\ue000\U000f0000",
    "replacement": "\ufffd\ufffd",
    "line separators": "a\u2028b\u2029c\x0bd\x0ce",
    "astral": "𝕋𝔥𝕖 𓀀 𠜎",
    "looks like json": '{"memcram":"\\u0000"}',
}


@pytest.fixture(scope="module")
def awkward_lm(tmp_path_factory):
    folder = tiny.save_model(
        tmp_path_factory.mktemp("awkward"),
        tiny.llama_config(),
        tiny.byte_tokenizer(lower_and_strip=True),
    )
    return memcram.load_lm(str(folder), device="cpu")


@pytest.fixture(scope="module")
def models(tiny_lm, awkward_lm, pocket):
    return {"bytes": tiny_lm, "awkward": awkward_lm, "pocket": pocket}


def restored(text, lm, steps):
    archive = memcram.compress(text, lm, steps=steps, chunk_tokens=64)
    return memcram.decompress(Archive.from_bytes(archive.to_bytes()), lm)


def check_texts(models, examples):
    """Every text with the byte tokenizer or the awkward one; every fifth with pocket's."""
    count = 0

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(text=UNICODE, steps=st.integers(1, 2))
    def check(text, steps):
        nonlocal count
        name = "pocket" if count % 5 == 0 else ("bytes", "awkward")[count % 2]
        count += 1
        assert restored(text, models[name], steps) == text.encode()

    check()
    assert count >= examples


@pytest.mark.parametrize("examples", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_text_is_restored_after_few_steps(models, examples):
    check_texts(models, examples)


@pytest.mark.parametrize("name", ["bytes", "awkward", "pocket"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts(models, name, text):
    assert restored(text, models[name], 1) == text.encode()


def random_texts(count, longest):
    """Different texts that pocket can hold in one vector."""
    texts = set()

    @settings(
        max_examples=4 * count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(text=st.text(min_size=1, max_size=longest))
    def collect(text):
        texts.add(text)

    collect()
    found = sorted(texts, key=lambda text: (len(text), text))
    return found[:: max(1, len(found) // count)][:count]


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_random_texts_crammed_to_exactness(pocket, count):
    """Two vectors hold any short text without a correction, decoded free-running."""
    texts = random_texts(count, longest=3)
    assert len(texts) == count
    ids = [torch.tensor(pocket.tokenize(text)) for text in texts]
    requests = [CramRequest(i, one, vectors=2) for i, one in enumerate(ids)]
    wrong = {}
    for attempt in range(4):
        wrong = {}
        again = [CramRequest(r.key, r.ids, r.vectors, seed=attempt) for r in requests]
        for one in Engine(pocket, memcram.get_recipe("default")).run(again):
            decoded = pocket.generate(one.mem, len(ids[one.key])).tolist()
            if pocket.detokenize(decoded).encode() != texts[one.key].encode():
                wrong[one.key] = (texts[one.key], one.n_correct)
        requests = [request for request in requests if request.key in wrong]
        if not wrong:
            break
    assert not wrong


class Counted:
    """A tokenizer that counts what passes through it."""

    def __init__(self, lm):
        self.lm, self.characters, self.tokens = lm, 0, 0

    def tokenize(self, text):
        self.characters += len(text)
        return self.lm.tokenize(text)

    def detokenize(self, ids):
        self.tokens += len(ids)
        return self.lm.detokenize(ids)


@pytest.fixture
def compared(monkeypatch):
    """Lengths of the texts that were searched for common stretches, which takes quadratic time."""
    lengths = []
    search = difflib.SequenceMatcher

    def matcher(junk, a, b, **options):
        lengths.extend((len(a), len(b)))
        return search(junk, a, b, **options)

    monkeypatch.setattr(difflib, "SequenceMatcher", matcher)
    return lengths


MEGABYTE = {
    "one line": ("The Lamp went out at nine; " * 40_000)[:1_000_000],
    "no white space": "xY" * 500_000,
    "white space alone": " \n" * 500_000,
}


@pytest.mark.parametrize("name", ["bytes", "awkward", "pocket"])
@pytest.mark.parametrize("text", MEGABYTE.values(), ids=MEGABYTE.keys())
def test_work_is_linear_in_a_megabyte(models, name, text, compared):
    lm = Counted(models[name])
    found = tokenize(text, lm)
    assert detokenize(found.ids, found.piece_tokens, found.raw, lm) == text.encode()
    assert sum(found.piece_tokens) == len(found.ids)
    # Each character is tokenized with the whole text and with its piece; each token is decoded
    # with both, and once more to restore the text.
    assert lm.characters <= 2 * len(text)
    assert lm.tokens <= 3 * len(text)
    assert max(compared, default=0) <= 1024
