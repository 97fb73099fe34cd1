"""A results table as a study might leave it: seeded, with token records that agree with it."""

from functools import cache

import numpy as np
import pandas as pd
import torch

from memcram.study.results import TokenRecord, column_types

MODELS = {
    # name: parameters, layers, width, vocab, positions, nats held by one vector
    "pocket": (9_000_000, 6, 256, 4096, 512, 95.0),
    "EleutherAI/pythia-160m": (162_000_000, 12, 768, 50304, 2048, 390.0),
    "meta-llama/Llama-3.2-1B": (1_236_000_000, 16, 2048, 128256, 131072, 2100.0),
}
NATS_A_TOKEN = {"books": 3.5, "fanfics": 3.3, "random": 7.5}
LENGTHS = {
    "pocket": (8, 16, 24, 32, 48, 64),
    "EleutherAI/pythia-160m": (32, 64, 96, 128, 192, 256),
    "meta-llama/Llama-3.2-1B": (256, 384, 512, 768, 1024),
}
WORDS = ["The", " lamp", " in", " the", " harbour", " went", " out", ",", "\n", " and", "  ", " no"]


@cache
def study(recipe="default", samples=6, vectors=(1, 2, 4), seed=0, models=tuple(MODELS)):
    """(rows, records by task)."""
    rng = np.random.default_rng(seed)
    rows, records = [], {}
    for model in models:
        for source in NATS_A_TOKEN:
            for k in vectors:
                for length in LENGTHS[model]:
                    for i in range(samples):
                        _add(rows, records, rng, recipe, model, source, k, length, i, "capacity")
                for i in range(2 * samples):
                    longest = 2 * LENGTHS[model][-1]
                    _add(rows, records, rng, recipe, model, source, k, longest, i, "horizon")
    return pd.DataFrame(rows, columns=list(column_types())), records


def _add(rows, records, rng, recipe, model, source, k, length, i, kind):
    parameters, layers, width, vocab, positions, held = MODELS[model]
    held = held * k**0.85 * rng.lognormal(0, 0.08)
    n = length if kind == "capacity" else int(length * rng.uniform(0.12, 1))
    lm = rng.gamma(1.2, NATS_A_TOKEN[source] / 1.2, n)
    lm[0] = np.nan
    total = np.nansum(lm)
    left = max(0.0, total - held) / total
    wrong = np.zeros(n, bool) if left == 0 else rng.random(n) < 0.9 * left * lm / np.nanmean(lm)
    wrong[0] = False
    margins = np.where(wrong, -rng.exponential(0.8, n), 0.02 + rng.exponential(0.9, n))
    mem = np.where(wrong, lm * rng.uniform(0.6, 1, n), lm * left * 0.15 + 0.01)
    mem[0] = 0.02
    first_wrong = int(np.argmax(wrong)) if wrong.any() else n
    horizon = first_wrong if kind == "capacity" else min(n, int(held / NATS_A_TOKEN[source] * 0.8))
    task = f"{len(rows):06x}{abs(hash_of(recipe, model)):06x}"
    steps = int(rng.integers(120, 300))
    grid = np.unique(np.geomspace(1, steps, 24).astype(int))
    right = int((~wrong).sum())
    curve = np.stack(
        [grid, right * (1 - np.exp(-3 * grid / steps)) / (1 - np.exp(-3)), 4 / grid**0.4], axis=1
    )
    lm_ranks = np.where(rng.random(n) < 0.35, 0, rng.integers(1, 900, n))
    lm_ranks[0] = -1
    records[task] = TokenRecord(
        mem=torch.zeros(k, width),
        ids=torch.tensor(rng.integers(0, len(WORDS), n)),
        mem_nats=torch.tensor(mem),
        lm_nats=torch.tensor(lm),
        mem_ranks=torch.tensor(np.where(wrong, rng.integers(1, 9, n), 0)),
        lm_ranks=torch.tensor(lm_ranks),
        margins=torch.tensor(margins),
        learned_step=torch.tensor(np.where(wrong, -1, rng.integers(1, steps, n))),
        curve=torch.tensor(curve, dtype=torch.float64),
    )
    rows.append(
        dict.fromkeys(column_types())
        | {
            "task": task,
            "study": "plausible",
            "kind": kind,
            "condition": "",
            "model": model,
            "fingerprint": f"{hash_of(model):064x}",
            "parameters": parameters,
            "layers": layers,
            "width": width,
            "vocab_size": vocab,
            "max_positions": positions,
            "recipe": recipe,
            "dtype": "float32",
            "layout": "mem",
            "first_token_given": False,
            "bos_in_text": False,
            "source": source,
            "text_id": f"{source}-{i:03d}",
            "origin": f"{source}/{i:03d}.txt",
            "offset": 1000 * i,
            "length": length,
            "tokens": n,
            "utf8_bytes": 4 * n,
            "vectors": k,
            "seed": 0,
            "outcome": "right" if not wrong.any() else "budget_exhausted",
            "steps": steps,
            "best_step": steps - 5,
            "token_steps": steps * n,
            "seconds": 1.5,
            "n_counted": n,
            "n_right": right,
            "accuracy": right / n,
            "horizon": horizon,
            "exact": horizon == n,
            "censored": horizon == n,
            "min_margin": float(margins.min()),
            "first_nats": float(mem[0]),
            "mem_nats": float(mem[1:].sum()),
            "lm_nats": float(total),
            "mem_right": int((~wrong[1:]).sum()),
            "lm_right": int((lm_ranks == 0).sum()),
        }
    )


def hash_of(*words):
    """A small stable hash; Python's own changes with each process."""
    total = 7
    for character in "|".join(words):
        total = (total * 31 + ord(character)) % 2**24
    return total


def pieces(model, ids):
    return [WORDS[i % len(WORDS)] for i in ids]
