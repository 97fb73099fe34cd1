"""Where growth ends: is the next token out of reach, or is the vector full?

    python benchmarks/walls.py BOOKS -o benchmarks/results/walls.json

Texts of books for choosing grow with a recipe from several starts. The wall of a text is the first
token that no start held. Then the wall alone is asked of a fresh vector, with everything before it
fed but not asked for; then the wall and the tokens just before it, more and more of them.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from arena.bouts import START_STRIDE, Terms, run_bout
from arena.command import Setting, staged
from arena.variants import Entry
from memcram.errors import UsageError
from memcram.models import FrozenLM
from memcram.recipes.catalogue import get_recipe
from memcram.texts import TextSample


@dataclass(frozen=True)
class Wall:
    """The first token of a text that no start held.

    Attributes:
        id: of the text.
        horizons: exact tokens of each start.
        token: as text.
        nats: −log p of it given the text before, without `[mem]`; None where nothing stands
            before it.
        rank: tokens that the model finds likelier there.
        margins: by how many tokens were asked for, the wall the last of them: the largest smallest
            margin (logits) that a vector reached; up to all tokens from t₁ on.
    """

    id: str
    horizons: list[int]
    token: str
    nats: float | None
    rank: int | None
    margins: dict[int, float]


def horizons(
    lm: FrozenLM, entry: Entry, samples: Sequence[TextSample], budget: int, starts: int
) -> list[list[int]]:
    """Exact tokens (text, start), each start with the whole budget."""
    bouts = [
        run_bout(lm, entry, samples, Terms(1, budget, None, START_STRIDE * start))
        for start in range(starts)
    ]
    return [[bout["rows"][i]["horizon"] for bout in bouts] for i in range(len(samples))]


def reach(lm: FrozenLM, texts: Sequence[Tensor], asked: Sequence[int], steps: int) -> list[float]:
    """Largest smallest margin over the last `asked[i]` tokens of each text, from a fresh vector.

    The loss, optimiser and start of the recipe `direct`, K = 1; all texts side by side.
    """
    direct = get_recipe("direct")
    ids = pad_sequence(list(texts), batch_first=True)
    at = torch.arange(ids.shape[1])
    lengths = torch.tensor([len(text) for text in texts])[:, None]
    counts = (at < lengths) & (at >= lengths - torch.tensor(asked)[:, None])
    weights = counts / counts.sum(1, keepdim=True)
    fed = torch.cat([lm.prefix.expand(len(ids), -1, -1), lm.embed(ids[:, :-1])], dim=1)
    generator = torch.Generator().manual_seed(0)
    start = direct.start.draw((len(ids), lm.input_width), lm.embedding_std, generator)
    mem = start[:, None].to(lm.device, torch.float32).requires_grad_()
    rate = direct.optimiser
    adam = torch.optim.AdamW([mem], lr=rate.lr, betas=rate.betas, weight_decay=rate.weight_decay)
    best = torch.full((len(ids),), float("-inf"))
    for _ in range(steps):
        hidden = lm.hidden(torch.cat([mem, fed], dim=1))[:, -ids.shape[1] :]
        scores = direct.objective(lm.head(hidden).flatten(0, 1), ids.flatten())
        seen = scores.margin.view(ids.shape).masked_fill(~counts, float("inf")).amin(1)
        best = torch.maximum(best, seen)
        adam.zero_grad()
        (scores.loss.view(ids.shape) * weights).sum().backward()
        adam.step()
    return [float(value) for value in best]


def surprise(lm: FrozenLM, ids: Tensor) -> tuple[float, int] | tuple[None, None]:
    """−log p of the last token given those before, without `[mem]`, and how many are likelier."""
    fed = torch.cat([lm.prefix, lm.embed(ids[:-1])])
    if not len(fed):
        return None, None
    with torch.no_grad():
        logits = lm.head(lm.hidden(fed[None]))[0, -1].log_softmax(-1)
    last = logits[ids[-1]]
    return -float(last), int((logits > last).sum())


def find_walls(
    lm: FrozenLM, samples: Sequence[TextSample], found: Sequence[list[int]], steps: int
) -> list[Wall]:
    """The wall of each text, and what can be held together with it."""
    up_to = [sample.ids[: max(held) + 1] for sample, held in zip(samples, found, strict=True)]
    sizes = {1: [1] * len(up_to), 4: [min(4, len(ids)) for ids in up_to]}
    sizes |= {-2: [-(-len(ids) // 2) for ids in up_to], -1: [len(ids) for ids in up_to]}
    reached = {key: reach(lm, up_to, asked, steps) for key, asked in sizes.items()}
    walls = []
    for i, (sample, ids) in enumerate(zip(samples, up_to, strict=True)):
        nats, rank = surprise(lm, ids)
        margin = {sizes[key][i]: reached[key][i] for key in sizes}
        walls.append(Wall(sample.id, found[i], lm.detokenize([int(ids[-1])]), nats, rank, margin))
    return walls


def summarise(walls: Sequence[Wall]) -> dict[str, Any]:
    """Spread within and between texts, and at how many walls each question was answered by yes."""
    table = np.array([wall.horizons for wall in walls], dtype=float)
    smallest_first = [[wall.margins[n] for n in sorted(wall.margins)] for wall in walls]
    nats = [wall.nats for wall in walls if wall.nats is not None]
    within = float(np.sqrt(table.var(axis=1, ddof=1).mean())) if table.shape[1] > 1 else None
    return {
        "texts": len(walls),
        "starts": table.shape[1],
        "horizon_mean": float(table.mean()),
        "horizon_by_start": table.mean(axis=0).tolist(),
        "horizon_best_of_starts": float(table.max(axis=1).mean()),
        "std_within_texts": within,
        "std_between_texts": float(table.mean(axis=1).std(ddof=1)) if len(walls) > 1 else None,
        "nats_median": float(np.median(nats)) if nats else None,
        "alone": sum(row[0] > 0 for row in smallest_first),
        "last_four": sum(wall.margins[min(4, max(wall.horizons) + 1)] > 0 for wall in walls),
        "last_half": sum(wall.margins[-(-(max(wall.horizons) + 1) // 2)] > 0 for wall in walls),
        "all": sum(row[-1] > 0 for row in smallest_first),
    }


@staged(recipe="default", vectors=1, samples=16, max_tokens=96, budget=12_000)
@click.option("--starts", default=4, show_default=True, type=click.IntRange(min=1))
@click.option("--steps", default=800, show_default=True, help="For the tokens before a wall.")
def main(setting: Setting, *, starts: int, steps: int) -> dict[str, Any]:
    """Look at where growth ends on TEXTS (files, or folders of .txt), books for choosing."""
    lm, samples = setting.lm, setting.samples
    if setting.terms.vectors != 1:
        raise UsageError(f"--vectors: got {setting.terms.vectors}, allowed: 1")
    found = horizons(lm, setting.entry, samples, setting.terms.budget, starts)
    open_ended = [i for i, held in enumerate(found) if max(held) < len(samples[i].ids)]
    walls = find_walls(lm, [samples[i] for i in open_ended], [found[i] for i in open_ended], steps)
    for wall in walls:
        margin = ", ".join(f"{n}: {value:+.2f}" for n, value in wall.margins.items())
        nats = "first" if wall.nats is None else f"{wall.nats:.1f} nats"
        click.echo(f"{wall.horizons} {wall.token!r} {nats}; margin of {margin}")
    summary = summarise(walls)
    click.echo(json.dumps(summary, indent=1))
    return {"steps": steps, "summary": summary, "walls": [asdict(wall) for wall in walls]}


if __name__ == "__main__":
    main()
