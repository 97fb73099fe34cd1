"""Figures of a report, as PNG and SVG; a pure function of its bouts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arena.summary import Bout, share_exact

_POINTS = 200


def horizon_along(bout: Bout, budgets: Sequence[float]) -> list[float]:
    """Mean tokens over the texts after so many token-steps a text."""
    total = np.zeros(len(budgets))
    for row in bout["rows"]:
        spent = [point[0] for point in row["history"]]
        tokens = np.array([0, *(point[1] for point in row["history"])])
        total += tokens[np.searchsorted(spent, budgets, side="right")]
    means: list[float] = (total / len(bout["rows"])).tolist()
    return means


def draw_figures(
    bouts: Sequence[Bout], lengths: Sequence[int], budget: int, folder: Path
) -> list[Path]:
    """Both figures of each K; returns the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    # Text stays text, and the same report gives the same bytes.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "memcram"}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for vectors in sorted({bout["vectors"] for bout in bouts}):
        of_k = [bout for bout in bouts if bout["vectors"] == vectors]
        written += _horizon_figure(of_k, budget, folder / f"horizon_k{vectors}")
        written += _share_figure(of_k, lengths, folder / f"share_exact_k{vectors}")
    return written


def _horizon_figure(bouts: Sequence[Bout], budget: int, stem: Path) -> list[Path]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    budgets = np.geomspace(max(1, budget / 1000), budget, _POINTS).tolist()
    for bout in bouts:
        dashed = "--" if bout["lengths"] == "grid" else "-"
        axes.plot(budgets, horizon_along(bout, budgets), dashed, label=bout["recipe"])
    axes.set_xscale("log")
    axes.set_xlabel("token-steps a text (dashed: a length of the grid)")
    axes.set_ylabel("mean horizon (tokens)")
    return _save(figure, axes, bouts, stem)


def _share_figure(bouts: Sequence[Bout], lengths: Sequence[int], stem: Path) -> list[Path]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for bout in bouts:
        shares = [(n, share_exact(bout, n)) for n in lengths]
        known = [(n, share) for n, share in shares if share is not None]
        dashed = "--o" if bout["lengths"] == "grid" else "-o"
        axes.plot(*zip(*known, strict=True), dashed, markersize=3, label=bout["recipe"])
    axes.set_xlabel("length (tokens)")
    axes.set_ylabel("share of texts exact")
    return _save(figure, axes, bouts, stem)


def _save(figure: Any, axes: Any, bouts: Sequence[Bout], stem: Path) -> list[Path]:
    axes.set_title(f"K = {bouts[0]['vectors']}, {len(bouts[0]['rows'])} texts")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    # Below the axes, where no curve runs.
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    for path in paths:
        dateless = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=dateless)
    return paths
