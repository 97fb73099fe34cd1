"""Stopping `compress`: the archive has the text's first tokens, as far as they are held."""

from functools import partial
from itertools import accumulate

import pytest

import memcram
from memcram.archive.pieces import detokenize, leading, tokenize
from memcram.compression.chunks import cram_chunks
from memcram.errors import UsageError

TEXT = "It was a dark night, and the rain fell on the roof of the old house by the river."
STEPS = 25  # of each chunk; few tokens are held, and soon


class Watch:
    """Keeps all progress, and stops once the text's first tokens are held so far."""

    def __init__(self, beyond=None):
        self.beyond = beyond
        self.seen = []

    def __call__(self, progress):
        self.seen.append(progress)

    @property
    def first(self):
        """Tokens in the first finished chunk; 0 before it is finished."""
        return next((end for start, end in self.seen[-1].held if not start), 0)

    @property
    def following(self):
        """Tokens held by the chunk in progress that follows it."""
        return sum(one.n_correct for one in self.seen[-1].active if one.start == self.first)

    def stop(self):
        return self.first > 0 and self.following >= self.beyond


def compress(text, lm, stop=None, **options):
    crammer = partial(cram_chunks, stop=stop)
    return memcram.compress(text, lm, steps=STEPS, crammer=crammer, **options)


def test_stopped_run_keeps_what_is_held(pocket):
    watch = Watch(beyond=2)
    archive = compress(TEXT, pocket, on_progress=watch, stop=watch.stop)
    assert archive.chunk_tokens == [watch.first, watch.following]
    data = memcram.decompress(archive, pocket)
    assert 0 < len(data) < len(TEXT)
    assert TEXT.encode().startswith(data)
    assert archive.summary()["tokens_corrected"] == 0


def test_run_that_is_never_stopped_is_the_same(tiny_lm):
    usual = memcram.compress(TEXT[:6], tiny_lm, steps=STEPS)
    watched = compress(TEXT[:6], tiny_lm, stop=lambda: False)
    assert watched.to_bytes() == usual.to_bytes()


def test_progress_names_the_tokens_held(tiny_lm):
    watch = Watch()
    compress(TEXT[:6], tiny_lm, on_progress=watch)
    for one in watch.seen:
        held = sum(end - start for start, end in one.held) + sum(x.n_correct for x in one.active)
        assert held == one.tokens_correct
        assert one.chunks_done == len(one.held)
    losses = [one.active[0].loss for one in watch.seen if one.active]
    assert losses[0] > min(losses) > 0


def test_stopped_before_anything_is_held(tiny_lm):
    with pytest.raises(UsageError, match="crammer: stopped before the first token was held"):
        compress(TEXT, tiny_lm, stop=lambda: True)


def test_chunks_of_given_length_are_kept_only_whole(pocket):
    watch = Watch(beyond=0)
    archive = compress(TEXT, pocket, chunk_tokens=4, on_progress=watch, stop=watch.stop)
    ends = [end for _, end in sorted(watch.seen[-1].held)]
    assert ends[0] == watch.first
    assert set(accumulate(archive.chunk_tokens)) <= set(ends)
    assert TEXT.encode().startswith(memcram.decompress(archive, pocket))


def test_vectors_in_few_bits_are_kept_too(pocket):
    watch = Watch(beyond=2)
    archive = compress(TEXT, pocket, on_progress=watch, stop=watch.stop, store="int8")
    assert archive.store == "int8"
    data = memcram.decompress(archive, pocket)
    assert 0 < len(data) < len(TEXT)
    assert TEXT.encode().startswith(data)


class Bytes:
    """A token per byte, but letters become lower case: raw pieces restore them."""

    def tokenize(self, text):
        return list(text.lower().encode())

    def detokenize(self, ids):
        return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize("text", ["naïve café", "The Old House by the River of Time", "ß" * 4])
def test_leading_tokens_give_the_beginning_of_the_text(text):
    tokenized, data = tokenize(text, Bytes()), text.encode()
    for n in range(1, len(tokenized.ids) + 1):
        part, beginning = leading(tokenized, n, data, Bytes())
        assert len(part.ids) <= n
        assert data.startswith(beginning)
        assert detokenize(part.ids, part.piece_tokens, part.raw, Bytes()) == beginning
        beginning.decode()  # no broken character
    assert beginning == data
