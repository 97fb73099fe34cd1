"""Archives of random vectors, and the running of an export's README."""

import re

import torch

import memcram
from memcram.archive.format import ArchiveTensors
from memcram.compression.codec import manifest_of

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
    none, rare = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int32)
    counts = torch.full((len(vectors),), N_TOKENS)
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
