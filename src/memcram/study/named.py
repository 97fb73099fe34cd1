"""Write the specs of the published studies, one per model, and starter specs for other models."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from memcram.errors import UsageError
from memcram.metrics.published import (
    PublishedGrid,
    PublishedResult,
    published_grid,
    published_results,
)
from memcram.models.accounting import room
from memcram.models.modes import Layout

# Longest input of models for which some published cells are too long to be run.
_POSITIONS = {"EleutherAI/pythia-160m": 2048}
_PROGRESSIVE = ("HuggingFaceTB/SmolLM2-1.7B", "google/gemma-3-4b-pt")
# Learning rates in the repository of the second paper's authors, direct and low-dimensional; for
# these models those of the published values, for others all that were tried.
_REPOSITORY = "tarasov2026-repo"
_RATES = {
    "HuggingFaceTB/SmolLM2-135M": (("1",), ("0.01",)),
    "EleutherAI/pythia": (("0.5",), ("0.5", "0.01")),
    "": (("0.1", "0.5", "1", "5"), ("0.1", "0.01")),
}
# The texts of the first paper, by their names in its grid.
_TEXTS = {
    "books": 'source = "hub-chunks"\ndataset = "yurakuratov/pg19_valid_1k_chunks"',
    "fanfics": 'source = "hub-chunks"\ndataset = "yurakuratov/fanfics_1k_chunks"',
    "random": 'source = "random-words"\n'
    '# path = "glove.6B.300d.txt"  # the published list: its first 100,000 words\n'
    "# top = 100000",
}
_PG19 = '\n[[texts]]\nname = "pg19"\nsource = "hub-books"  # PG-19, validation split\n'
_HUB_NOTE = "# The published texts come from the hub and need the extra: memcram[datasets]."


@dataclass(frozen=True)
class NamedStudy:
    """A published study of one model.

    Attributes:
        name: as passed to `study new`.
        model: hub id.
        kind: kind of study.
        source: of the published values, as in `data/published_results.csv`.
    """

    name: str
    model: str
    kind: str
    source: str


def named_studies() -> list[NamedStudy]:
    """List all named studies, starting with those of the first paper."""
    first = dict.fromkeys(row.hf_id for row in published_grid())
    since = dict.fromkeys(row.hf_id for row in _repository_rows())
    return [
        *(NamedStudy(short_name(model), model, "capacity", "kuratov2025") for model in first),
        *(NamedStudy(short_name(model), model, "horizon", "tarasov2026") for model in _PROGRESSIVE),
        *(
            NamedStudy(
                short_name(model) + "-horizon" * (model in first), model, "horizon", _REPOSITORY
            )
            for model in since
        ),
    ]


def short_name(model: str) -> str:
    """Shorten a model's id: no owner, and no suffix that names its file format.

    >>> short_name("allenai/OLMo-1B-0724-hf")
    'olmo-1b-0724'
    """
    last = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"^\W+|[^\w.+-]+", "-", re.sub(r"-(hf|pt)$", "", last)).strip("-") or "study"


def spec_text(name: str, scale: float = 1.0, layout: Layout = "mem") -> str:
    """Write the TOML of a named study, or of a starter study for any other model.

    Args:
        name: name of the study, or hub id or folder of a model.
        scale: fraction of the samples to keep, at least 2. Of each list of lengths and of K, the
            fraction √scale is kept (at least 3), evenly spaced, with the first and the last.
        layout: of the model. Cells that exceed its positions are left out.

    Raises:
        UsageError: an empty or unprintable name, or a scale out of range.
    """
    if not name.strip():
        raise UsageError("got nothing", argument="name", allowed="a named study or a model")
    if not 0 < scale <= 1:  # also refuses NaN
        raise UsageError(argument="scale", got=scale, allowed="more than 0, up to 1")
    if not name.isprintable():
        raise UsageError(argument="name", got=name, allowed="printable characters")
    for study in named_studies():
        if name in (study.name, study.model):
            if study.source == _REPOSITORY:
                return _repository(study, scale, layout)
            if study.kind == "horizon":
                return _progressive(study, scale, layout)
            rows = [row for row in published_grid() if row.hf_id == study.model]
            return _capacity(study, rows, scale, layout)
    return _starter(name, scale, layout)


def _models(model: str, layout: Layout) -> str:
    entry = _toml(model)
    if layout != "mem":
        entry = f"{{ id = {entry}, layout = {_toml(layout)} }}"
    return f"models = [{entry}]\n"


def _capacity(
    study: NamedStudy, rows: Sequence[PublishedGrid], scale: float, layout: Layout
) -> str:
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
        f"{_models(study.model, layout)}"
        'recipes = ["kuratov2025"]  # as published; add "default" to see what more is possible\n'
        "# steps = 5000  # the recipe's own budget\n"
        'dtype = "float32"\n'
        f"{cast}\n"
        f"{flash}"
        "seed = 0\n"
    )
    return head + "".join(_entry(row, scale, layout) for row in rows)


def _entry(row: PublishedGrid, scale: float, layout: Layout) -> str:
    """Write one `[[texts]]` table, or several if not every length fits with every K."""
    samples = _samples(row.samples, scale)
    vectors = _subsampled(row.n_mem, scale)
    if row.random_cap is not None:
        length = f"lengths_up_to = {row.random_cap}  # each text has its own, uniform from 2"
        return _table(row.text, samples, vectors, length)
    positions = _POSITIONS.get(row.hf_id)
    fitting: dict[tuple[int, ...], list[int]] = {}
    for k in vectors:
        most = room(positions, k, prefix=1 if layout == "mem+bos" else 0)
        lengths = tuple(n for n in row.lengths if most is None or n <= most)
        fitting.setdefault(lengths, []).append(k)
    return "".join(
        _table(row.text, samples, ks, f"lengths = {list(_subsampled(lengths, scale))}")
        for lengths, ks in fitting.items()
    )


def _table(text: str, samples: int, vectors: Sequence[int], length: str) -> str:
    return (
        f"\n[[texts]]\nname = {_toml(text)}\n{_TEXTS[text]}\n"
        f"samples = {samples}\nvectors = {list(vectors)}\n{length}\n"
    )


def _progressive(study: NamedStudy, scale: float, layout: Layout) -> str:
    return (
        f"# Tarasov et al., ICML 2026 (progressive cramming): exact horizons of {study.model}.\n"
        f"{_HUB_NOTE}\n\n"
        f"name = {_toml(study.name)}\n"
        'kind = "horizon"\n'
        f"{_models(study.model, layout)}"
        f'recipes = ["tarasov2026", "{_low_dim(study.model)}"]\n'
        "vectors = [1]\n"
        "# lengths = [2048]  # tokens offered; without it, as many as there is room for\n"
        f"samples = {_samples(50, scale)}\n"
        'dtype = "bfloat16"  # weights, as published\n'
        "seed = 0\n"
        f"{_PG19}"
    )


def _low_dim(model: str) -> str:
    """Return the low-dimensional recipe with the published k: 32 for Gemma, else 256."""
    return "tarasov2026+low-dim" + ("@k=32" if "gemma" in model else "")


def _repository(study: NamedStudy, scale: float, layout: Layout) -> str:
    """Write the study of a model that the second paper's authors measured after the paper."""
    rows = [row for row in _repository_rows() if row.hf_id == study.model]
    # The values at a temperature are means of 50 texts, of which the others use the first 10.
    samples = 50 if any("temperature" in row.quantity for row in rows) else 10
    recipes = [recipe for row in rows for recipe in _repository_recipes(row)]
    values = ", ".join(f"{row.quantity} {row.mean:g}" for row in rows)
    listed = "".join(f"  {_toml(recipe)},\n" for recipe in recipes)
    return (
        f"# Development repository of Tarasov et al., July 2026: horizons of {study.model}.\n"
        "# Published: mean tokens correct under teacher forcing, at the best learning rate:\n"
        f"# {values}\n"
        f"{_HUB_NOTE}\n\n"
        f"name = {_toml(study.name)}\n"
        'kind = "horizon"\n'
        f"{_models(study.model, layout)}"
        f"recipes = [\n{listed}]\n"
        "vectors = [1]\n"
        f"samples = {_samples(samples, scale)}\n"
        'dtype = "bfloat16"  # weights, as published\n'
        "seed = 0\n"
        f"{_PG19}"
    )


def _repository_rows() -> list[PublishedResult]:
    return [row for row in published_results() if row.study == _REPOSITORY]


def _repository_recipes(row: PublishedResult) -> list[str]:
    """Return the recipes that a value was the best of."""
    direct, low_dim = next(rates for begin, rates in _RATES.items() if row.hf_id.startswith(begin))
    if row.quantity.endswith("low_dim"):
        return [f"tarasov2026+low-dim@lr={rate}" for rate in low_dim]
    _, at, temperature = row.quantity.partition("_temperature_")
    cold = f",T={temperature}" if at else ""
    return [f"tarasov2026@lr={rate}{cold}" for rate in direct]


def _starter(model: str, scale: float, layout: Layout) -> str:
    small = model == "pocket"
    lengths = (4, 8, 16, 24, 32, 48) if small else (8, 16, 32, 64, 128, 256)
    vectors = (1, 2) if small else (1,)
    return (
        f"# A starter for {model}: edit it, then `memcram study run {short_name(model)}.toml`.\n"
        "# docs/studies.md explains every key.\n\n"
        f"name = {_toml(short_name(model))}\n"
        'kind = "capacity"  # or "horizon": as much of each text as fits\n'
        f"{_models(model, layout)}"
        'recipes = ["default"]\n'
        f"vectors = {list(_subsampled(vectors, scale))}\n"
        f"lengths = {list(_subsampled(lengths, scale))}\n"
        f"samples = {_samples(16, scale)}\n"
        "steps = 300  # without it, the recipe's own budget\n"
        'dtype = "float32"\n'
        "seed = 0\n"
        '\n[[texts]]\nname = "books"\nsource = "books"\n'
        'path = "texts"  # a .txt file or a folder of them, from this file on\n'
        '\n[[texts]]\nname = "random"\nsource = "random-words"\n'
    )


def _toml(text: str) -> str:
    """Quote a TOML string: like JSON, but without surrogate pairs."""
    return json.dumps(text, ensure_ascii=False)


def _samples(samples: int, scale: float) -> int:
    return max(2, round(samples * scale))


def _subsampled(values: Sequence[int], scale: float) -> tuple[int, ...]:
    """Keep the fraction √scale of the values, evenly spaced, with the first and the last."""
    n = len(values)
    keep = min(n, max(3, round(n * math.sqrt(scale))))
    if keep < 2:
        return tuple(values)
    return tuple(values[round(i * (n - 1) / (keep - 1))] for i in range(keep))
