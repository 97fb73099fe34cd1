"""Specs of the published studies, model by model, and a starter for any other model."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from memcram.errors import UsageError
from memcram.metrics.published import PublishedGrid, published_grid

# Longest input, where a published length and K together exceed it; such cells can't be run.
_POSITIONS = {"EleutherAI/pythia-160m": 2048}
_PROGRESSIVE = ("HuggingFaceTB/SmolLM2-1.7B", "google/gemma-3-4b-pt")
# The texts of the first paper, by the name its grid gives them.
_TEXTS = {
    "books": 'source = "hub-chunks"\ndataset = "yurakuratov/pg19_valid_1k_chunks"',
    "fanfics": 'source = "hub-chunks"\ndataset = "yurakuratov/fanfics_1k_chunks"',
    "random": 'source = "random-words"\n'
    '# path = "glove.6B.300d.txt"  # the published list: its first 100,000 words\n'
    "# top = 100000",
}
_HUB_NOTE = "# The published texts come from the hub and need the extra: memcram[datasets]."


@dataclass(frozen=True)
class NamedStudy:
    """A published study of one model.

    Attributes:
        name: what `study new` takes.
        model: hub id.
        kind: of the study.
    """

    name: str
    model: str
    kind: str


def named_studies() -> list[NamedStudy]:
    """All named studies, those of the first paper first."""
    first = dict.fromkeys(row.hf_id for row in published_grid())
    return [NamedStudy(short_name(model), model, "capacity") for model in first] + [
        NamedStudy(short_name(model), model, "horizon") for model in _PROGRESSIVE
    ]


def short_name(model: str) -> str:
    """A model's name without its owner and without what says only how it is stored.

    >>> short_name("allenai/OLMo-1B-0724-hf")
    'olmo-1b-0724'
    """
    last = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"^\W+|[^\w.+-]+", "-", re.sub(r"-(hf|pt)$", "", last)).strip("-") or "study"


def spec_text(name: str, scale: float = 1.0) -> str:
    """The TOML of a named study (by its name or its model's hub id), or a starter for a model.

    Args:
        name: of the study, or a model.
        scale: share of the samples that stays, at least 2; of each list of lengths and of K the
            share √scale stays (at least 3), evenly spaced, with the first and the last.
    """
    if not name.strip():
        raise UsageError("NAME: got nothing, allowed: a named study (see --list) or a model")
    if not 0 < scale <= 1:  # NaN too, which no other comparison refuses
        raise UsageError(f"--scale: got {scale}, allowed: more than 0, up to 1")
    if not name.isprintable():
        raise UsageError(f"NAME: got {name!r}, allowed: printable characters")
    for study in named_studies():
        if name in (study.name, study.model):
            if study.kind == "horizon":
                return _progressive(study, scale)
            rows = [row for row in published_grid() if row.hf_id == study.model]
            return _capacity(study, rows, scale)
    return _starter(name, scale)


def _capacity(study: NamedStudy, rows: Sequence[PublishedGrid], scale: float) -> str:
    first = rows[0]
    cast = (
        "# No autocast: float32 throughout, as published."
        if first.dtype == "float32"
        else f'autocast = "{first.dtype}"  # of matrix products, over float32 weights, as published'
    )
    flash = (
        '# attention = "flash_attention_2"  # as published; needs the package flash-attn\n'
        if first.flash
        else ""
    )
    head = (
        f"# Kuratov et al., ACL 2025: the grid that its scripts ran for {study.model}.\n"
        f"{_HUB_NOTE}\n\n"
        f"name = {_toml(study.name)}\n"
        'kind = "capacity"\n'
        f"models = [{_toml(study.model)}]\n"
        'recipes = ["kuratov2025"]  # as published; add "default" to see what more is possible\n'
        "# steps = 5000  # the recipe's own budget\n"
        'dtype = "float32"\n'
        f"{cast}\n"
        f"{flash}"
        "seed = 0\n"
    )
    return head + "".join(_entry(row, scale) for row in rows)


def _entry(row: PublishedGrid, scale: float) -> str:
    """One `[[texts]]` table, or more where not every length has room beside every K."""
    samples = _samples(row.samples, scale)
    vectors = _thinned(row.n_mem, scale)
    if row.random_cap is not None:
        length = f"lengths_up_to = {row.random_cap}  # each text has its own, uniform from 2"
        return _table(row.text, samples, vectors, length)
    positions = _POSITIONS.get(row.hf_id)
    fitting: dict[tuple[int, ...], list[int]] = {}
    for k in vectors:
        lengths = tuple(n for n in row.lengths if positions is None or n + k - 1 <= positions)
        fitting.setdefault(lengths, []).append(k)
    return "".join(
        _table(row.text, samples, ks, f"lengths = {list(_thinned(lengths, scale))}")
        for lengths, ks in fitting.items()
    )


def _table(text: str, samples: int, vectors: Sequence[int], length: str) -> str:
    return (
        f"\n[[texts]]\nname = {_toml(text)}\n{_TEXTS[text]}\n"
        f"samples = {samples}\nvectors = {list(vectors)}\n{length}\n"
    )


def _progressive(study: NamedStudy, scale: float) -> str:
    return (
        f"# Tarasov et al., ICML 2026 (progressive cramming): exact horizons of {study.model}.\n"
        f"{_HUB_NOTE}\n\n"
        f"name = {_toml(study.name)}\n"
        'kind = "horizon"\n'
        f"models = [{_toml(study.model)}]\n"
        f'recipes = ["tarasov2026", "{_low_dim(study.model)}"]\n'
        "vectors = [1]\n"
        "# lengths = [2048]  # tokens offered; without it, as many as there is room for\n"
        f"samples = {_samples(50, scale)}\n"
        'dtype = "bfloat16"  # weights, as published\n'
        "seed = 0\n"
        '\n[[texts]]\nname = "pg19"\nsource = "hub-books"  # PG-19, validation split\n'
    )


def _low_dim(model: str) -> str:
    """The low-dimensional recipe with the k that was published: 32 for Gemma, else 256."""
    return "tarasov2026+low-dim" + ("@k=32" if "gemma" in model else "")


def _starter(model: str, scale: float) -> str:
    small = model == "pocket"
    lengths = (4, 8, 16, 24, 32, 48) if small else (8, 16, 32, 64, 128, 256)
    vectors = (1, 2) if small else (1,)
    return (
        f"# A starter for {model}: edit it, then `memcram study run {short_name(model)}.toml`.\n"
        "# docs/studies.md explains every key.\n\n"
        f"name = {_toml(short_name(model))}\n"
        'kind = "capacity"  # or "horizon": as much of each text as fits\n'
        f"models = [{_toml(model)}]\n"
        'recipes = ["default"]\n'
        f"vectors = {list(_thinned(vectors, scale))}\n"
        f"lengths = {list(_thinned(lengths, scale))}\n"
        f"samples = {_samples(16, scale)}\n"
        "steps = 300  # without it, the recipe's own budget\n"
        'dtype = "float32"\n'
        "seed = 0\n"
        '\n[[texts]]\nname = "books"\nsource = "books"\n'
        'path = "texts"  # a .txt file or a folder of them, from this file on\n'
        '\n[[texts]]\nname = "random"\nsource = "random-words"\n'
    )


def _toml(text: str) -> str:
    """A TOML string: a JSON one, but TOML knows no surrogate pairs."""
    return json.dumps(text, ensure_ascii=False)


def _samples(samples: int, scale: float) -> int:
    return max(2, round(samples * scale))


def _thinned(values: Sequence[int], scale: float) -> tuple[int, ...]:
    """A share √scale of the values, evenly spaced, with the first and the last."""
    n = len(values)
    keep = min(n, max(3, round(n * math.sqrt(scale))))
    if keep < 2:
        return tuple(values)
    return tuple(values[round(i * (n - 1) / (keep - 1))] for i in range(keep))
