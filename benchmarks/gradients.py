"""Why does a margin loss hold more? Where each loss spends its gradient, step by step.

    python benchmarks/gradients.py BOOKS -o benchmarks/results/gradients.json --figures FOLDER

Texts of one length are crammed alone, by the same recipe with each loss. At every step it is noted
how many tokens are right, what the smallest margin is, and which share of the gradient, as the norm
of each token's gradient to its logits, lies on tokens that are right already.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

import memcram
from arena.bouts import Terms, cram_requests
from arena.texts import CHOOSING, draw, read_books, split_books
from arena.variants import parse_entry
from memcram.engine.loop import Engine
from memcram.errors import MemcramError
from memcram.files import write_atomically
from memcram.models import FrozenLM
from memcram.models.accounting import margins
from memcram.recipes.objectives import CrossEntropy, Objective, SmoothMargin, TokenScores
from memcram.recipes.recipe import Recipe
from memcram.recipes.strategies import Fixed

COLUMNS = ("share_right", "min_margin", "gradient_on_right")


def gradient_norms(objective: Objective, logits: Tensor, targets: Tensor) -> Tensor:
    """‖∂ℓᵢ/∂zᵢ‖ of each token, (token,).

    Cross-entropy: softmax(z) − onehot(t). Smooth margin: σ(−μ/τ) at the target, and its negative at
    the best other logit.
    """
    if isinstance(objective, CrossEntropy):
        residual = logits.softmax(-1)
        residual.scatter_add_(-1, targets[:, None], -torch.ones_like(residual[:, :1]))
        return residual.norm(dim=-1)
    assert isinstance(objective, SmoothMargin)
    return 2**0.5 * torch.sigmoid(-margins(logits, targets) / objective.tau)


@dataclass(frozen=True)
class Watched:
    """Another loss that notes `COLUMNS` of its first `n` tokens at each call; others are padding.

    Attributes:
        objective: the loss.
        n: tokens of the text.
        seen: one row a step.
    """

    objective: Objective
    n: int
    seen: list[tuple[float, float, float]] = field(default_factory=list)

    def __call__(self, logits: Tensor, targets: Tensor) -> TokenScores:
        """What the loss itself says."""
        scores = self.objective(logits, targets)
        with torch.no_grad():
            margin = scores.margin[: self.n]
            norms = gradient_norms(self.objective, logits.detach()[: self.n], targets[: self.n])
            right = margin > 0
            on_right = (norms * right).sum() / norms.sum().clamp(min=1e-30)
            row = (right.float().mean().item(), margin.min().item(), on_right.item())
        self.seen.append(row)
        return scores


def watch(lm: FrozenLM, recipe: Recipe, texts: Sequence[Tensor], steps: int) -> np.ndarray:
    """(text, step, column) of each text, crammed alone for `steps` steps whatever it reaches."""
    found = []
    for request in cram_requests(recipe, texts, Terms(1, 0, None, 0)):
        watched = Watched(recipe.objective, len(request.ids))
        strategy = Fixed(steps=steps - 1, margin=1e9)
        alone = replace(recipe, objective=watched, strategy=strategy)
        list(Engine(lm, alone, batch_tokens=1).run([request]))
        found.append(watched.seen)
    return np.array(found)


def draw_figure(curves: dict[str, np.ndarray], length: int, folder: Path) -> list[Path]:
    """Medians over the texts with their quartiles, a panel a column; PNG and SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "memcram"}
    from matplotlib.figure import Figure

    titles = {
        "share_right": "tokens right (share)",
        "min_margin": "smallest margin (logits)",
        "gradient_on_right": "gradient on tokens\nthat are right (share)",
    }
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, (column, name) in zip(panels, enumerate(COLUMNS), strict=True):
        for dashes, (label, table) in zip(("-", "--", ":"), curves.items(), strict=False):
            low, middle, high = np.quantile(table[:, :, column], (0.25, 0.5, 0.75), axis=0)
            steps = np.arange(len(middle))
            (line,) = axes.plot(steps, middle, dashes, label=label)
            axes.fill_between(steps, low, high, alpha=0.15, color=line.get_color())
        axes.set(xlabel="step", title=titles[name])
        axes.grid(alpha=0.3)
        if name == "min_margin":
            axes.axhline(0, color="0.5", linewidth=0.8)
    panels[0].legend(fontsize="small", loc="lower right")
    texts = len(next(iter(curves.values())))
    figure.suptitle(f"{texts} texts of {length} tokens, K = 1: median and quartiles")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "gradients.png", folder / "gradients.svg"]
    for path in paths:
        dateless = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=dateless)
    return paths


def summarise(curves: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Medians over the texts at some steps, and the share of texts that were right by the end."""
    lines = []
    for label, table in curves.items():
        shown = [step for step in (0, 20, 50, 100, 200, 400) if step < table.shape[1]]
        lines.append(
            {
                "recipe": label,
                "texts": len(table),
                "right_at_some_step": float((table[:, :, 1] > 0).any(1).mean()),
                "medians": {
                    step: dict(zip(COLUMNS, np.median(table[:, step], 0).tolist(), strict=True))
                    for step in shown
                },
            }
        )
    return lines


@click.command()
@click.argument("texts", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("--samples", default=16, show_default=True, type=click.IntRange(min=1))
@click.option("--length", default=16, show_default=True, type=click.IntRange(min=2))
@click.option("--steps", default=300, show_default=True, type=click.IntRange(min=2))
@click.option(
    "-r",
    "--recipe",
    "names",
    multiple=True,
    default=["default", "default@objective=CrossEntropy"],
    show_default=True,
    help="With the losses CrossEntropy or SmoothMargin.",
)
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for PNG and SVG.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(
    texts: tuple[Path, ...],
    model: str,
    samples: int,
    length: int,
    steps: int,
    names: tuple[str, ...],
    figures: Path | None,
    output: Path | None,
) -> None:
    """Watch the losses of recipes on TEXTS (files, or folders of .txt), books for choosing."""
    try:
        recipes = [parse_entry(name).recipe for name in names]
        books = read_books(texts)
        half = split_books(list(books))[CHOOSING]
        lm = memcram.load_lm(model)
        chosen = {name: books[name] for name in half}
        drawn = draw(lm, chosen, samples=samples, max_tokens=length, seed=0)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    ids = [sample.ids for sample in drawn]
    curves = {recipe.name: watch(lm, recipe, ids, steps) for recipe in recipes}
    lines = summarise(curves)
    for line in lines:
        right = f"{line['right_at_some_step']:.2f} of {line['texts']} texts right at some step"
        click.echo(f"{line['recipe']}: {right}")
        for step, medians in line["medians"].items():
            shown = ", ".join(f"{name} {value:.3f}" for name, value in medians.items())
            click.echo(f"  step {step}: {shown}")
    if figures:
        for path in draw_figure(curves, length, figures):
            click.echo(f"  wrote {path}", err=True)
    if output:
        report = {
            "model": lm.identity.id,
            "length": length,
            "steps": steps,
            "texts": [sample.id for sample in drawn],
            "settings": [recipe.settings() for recipe in recipes],
            "versions": {name: version(name) for name in ("memcram", "torch", "transformers")},
            "summary": lines,
        }
        write_atomically(output, (json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
