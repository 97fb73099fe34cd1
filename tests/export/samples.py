"""Archives of random vectors, a stand-in for llama.cpp, and the running of an export's README."""

import re

import torch

import memcram
from memcram.archive.format import ArchiveTensors
from memcram.compression.contents import manifest_of
from memcram.models import decoding

N_TOKENS = 24  # per chunk


def run_readme(folder, monkeypatch, capsys):
    """What the README's snippet prints when it is run in the folder."""
    (snippet,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    exec(snippet, {})
    return capsys.readouterr().out


def archive_of_random_vectors(lm, *vectors):
    """An archive of what random vectors decode to, with one chunk per number of vectors."""
    draw = torch.Generator().manual_seed(0)
    mem = torch.randn(sum(vectors), lm.input_width, generator=draw) * lm.embedding_std
    mem = mem.to(lm.dtype)
    chunks = [lm.generate(one, N_TOKENS) for one in mem.split(vectors)]
    assert all(len(set(ids.tolist())) >= 4 for ids in chunks)
    return archive_of(lm, mem, vectors, chunks)


def archive_with_wide_margins(lm, least, chunks=2, n_tokens=4):
    """An archive of ASCII texts whose margins all exceed `least`: the first such random vectors."""
    draw = torch.Generator().manual_seed(0)
    mem = torch.randn(2048, 2, lm.input_width, generator=draw) * lm.embedding_std
    decoded = decoding.greedy(lm, list(mem), [n_tokens] * len(mem))
    wide = [
        row
        for row, one in enumerate(decoded)
        if one.margins.min() > least
        and len(set(one.ids.tolist())) > 1
        and lm.detokenize(one.ids.tolist()).isascii()
    ][:chunks]
    assert len(wide) == chunks
    return archive_of(lm, mem[wide].flatten(0, 1), [2] * chunks, [decoded[i].ids for i in wide])


def archive_of(lm, mem, vectors, chunks):
    """An archive of vectors that decode to these ids, with so many vectors in each chunk."""
    none, rare = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    counts = torch.tensor([len(ids) for ids in chunks])
    tensors = ArchiveTensors(
        vectors=mem,
        chunk_vectors=torch.tensor(vectors, dtype=torch.int32),
        chunk_tokens=counts.int(),
        chunk_margins=torch.full((len(vectors),), 0.1),
        correction_positions=none,
        correction_tokens=rare,
        guard_positions=none,
        guard_tokens=rare,
        piece_tokens=counts,
        raw_offsets=none,
        raw_removed=none,
        raw_lengths=none,
        raw_bytes=torch.zeros(0, dtype=torch.uint8),
    )
    text = "".join(lm.detokenize(ids.tolist()) for ids in chunks).encode()
    manifest = manifest_of(lm, memcram.get_recipe("default").settings(), 0, text, int(counts.sum()))
    manifest = manifest.model_copy(update={"tensors_sha256": tensors.sha256()})
    return memcram.Archive(manifest, tensors)


class StandIn:
    """llama.cpp as far as the exporter uses it, computed by a model of memcram.

    Args:
        lm: the model.
        factor: what it multiplies vectors by, as llama.cpp does for Gemma-2.
        add: what it adds to each decoded id.
    """

    version = "0"

    def __init__(self, lm, factor=1.0, add=0):
        self.lm, self.factor, self.add = lm, factor, add

    def logits(self, tokens_or_vectors, positions):
        assert list(positions) == list(range(len(tokens_or_vectors)))
        rows = torch.as_tensor(tokens_or_vectors)
        embeds = self.lm.embed(rows) if rows.dim() == 1 else rows * self.factor
        return self.lm.logits(embeds[None])[0, -1].numpy()

    def decode(self, embd, pos, n_tokens):
        assert pos.tolist() == list(range(len(embd)))
        vectors = torch.from_numpy(embd) * self.factor
        ids = self.lm.generate(vectors[: len(embd) - len(self.lm.prefix)], n_tokens)
        return (ids + self.add).tolist()

    def text(self, ids):
        return self.lm.detokenize(ids).encode()

    def close(self):
        pass
