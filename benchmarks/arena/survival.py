"""What `robustness.py` says of its rows: shares that survive, tables and the figure.

Pure functions on rows as plain JSON values.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from memcram.metrics.statistics import wilson95

Rows = Sequence[dict[str, Any]]

# Bins of the smallest margin that was reached, in logits.
EDGES = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 1.5, 2.0, math.inf)


def summarise(rows: Rows) -> dict[str, Any]:
    """By margin asked for, and by margin reached over all of them.

    Steps and token-steps are means over the texts that are right. In the bins a text stands once
    for each margin it stopped at; those of one text are not independent, so that the intervals of
    the bins are too narrow. `lost_up_to` is the largest margin at which a text was lost.
    """
    right = [row for row in rows if row["right"]]
    names = list(right[0]["survives"]) if right else []
    by_asked = []
    for asked in sorted({row["asked"] for row in rows}):
        all_of = [row for row in rows if row["asked"] == asked]
        of = [row for row in all_of if row["right"]]
        by_asked.append(
            {
                "asked": asked,
                "texts": len(all_of),
                "right": len(of),
                "reached": sum(row["margin"] > asked for row in of),
                "median_margin": _median([row["margin"] for row in of]),
                "steps": _mean([row["steps"] for row in of]),
                "token_steps": _mean([row["token_steps"] for row in of]),
                "survives": shares(of, names),
            }
        )
    # Where a margin asked for was exceeded before, the run is the same to the last bit.
    stops = list({(row["id"], row["margin"]): row for row in right}.values())
    by_reached = []
    for low, high in pairwise(EDGES):
        of = [row for row in stops if low < row["margin"] <= high]
        if of:
            end = None if math.isinf(high) else high
            by_reached.append(
                {"above": low, "up_to": end, "n": len(of), "survives": shares(of, names)}
            )
    lost = {
        name: max((row["margin"] for row in right if not row["survives"][name]), default=None)
        for name in names
    }
    return {"by_asked": by_asked, "by_reached": by_reached, "lost_up_to": lost}


def shares(rows: Rows, conditions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Share of the rows that survive each condition, with Wilson's 95 % interval."""
    found: dict[str, dict[str, Any]] = {}
    for name in conditions if rows else ():
        share = sum(row["survives"][name] for row in rows) / len(rows)
        found[name] = {"share": share, "ci95": wilson95(share, len(rows))}
    return found


def survival_tables(report: dict[str, Any]) -> str:
    """Both tables, and the largest margin that was lost."""
    names = list(report["lost_up_to"])
    wide = max([len(name) for name in names] + [15])
    lines = [
        f"{report['tokens']} tokens, K = {report['vectors']}; margins in logits; steps and "
        "token-steps: means over the texts that are right",
        f"{'asked':>6} {'texts':>6} {'right':>6} {'reached':>8} {'median':>7} {'steps':>7} "
        f"{'token-steps':>12}",
    ]
    for one in report["by_asked"]:
        lines.append(
            f"{one['asked']:>6g} {one['texts']:>6} {one['right']:>6} {one['reached']:>8} "
            f"{_number(one['median_margin'], '.3f'):>7} {_number(one['steps'], '.0f'):>7} "
            f"{_number(one['token_steps'], ',.0f'):>12}"
        )
    head = " ".join(f"{name:>{wide}}" for name in names)
    lines += [
        "",
        "share that survives, of the texts that are right",
        f"{'asked':>12} {'n':>4} {head}",
    ]
    for one in report["by_asked"]:
        lines.append(f"{one['asked']:>12g} {one['right']:>4} {_cells(one, names, wide)}")
    lines += [
        "",
        "the same by the smallest margin reached, whichever was asked for",
        f"{'reached':>12} {'n':>4} {head}",
    ]
    for one in report["by_reached"]:
        lines.append(f"{_bin(one):>12} {one['n']:>4} {_cells(one, names, wide)}")
    lost = (_number(report["lost_up_to"][name], ".3g") for name in names)
    lines.append(f"{'lost up to':>12} {'':>4} " + " ".join(f"{one:>{wide}}" for one in lost))
    return "\n".join(lines)


def draw_figure(report: dict[str, Any], folder: Path) -> list[Path]:
    """Share that survives against the margin asked for, and against the one reached."""
    import matplotlib as mpl

    mpl.use("Agg")
    # Text stays text, and the same report gives the same bytes.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "memcram"}
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    asked = [one for one in report["by_asked"] if one["survives"]]
    _points(left, asked, [f"{one['asked']:g}\nn = {one['right']}" for one in asked])
    left.set_xlabel("smallest margin asked for (logits)")
    left.set_ylabel("share that decoding returns")
    reached = report["by_reached"]
    _points(right, reached, [f"{_bin(one)}\nn = {one['n']}" for one in reached])
    right.set_xlabel("smallest margin reached (logits), whichever was asked for")
    left.legend(fontsize="small", loc="lower right")
    paths = [folder / f"robustness.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        dateless = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=dateless)
    return paths


# Marker, its filling and grey: each is told from the others without colour.
_MARKS = ("o", "s", "^", "D", "v", "P")
_GREYS = ("0.75", "0.6", "0.45", "0.3", "0.0", "0.0")


def _points(axes: Any, lines: Rows, labels: Sequence[str]) -> None:
    """A point with its interval for each condition, side by side over each label."""
    names = list(lines[0]["survives"]) if lines else []
    for i, name in enumerate(names):
        found = [one["survives"][name] for one in lines]
        at = [x + 0.7 * ((i + 0.5) / len(names) - 0.5) for x in range(len(lines))]
        share = [one["share"] for one in found]
        below = [max(0.0, one["share"] - one["ci95"][0]) for one in found]
        above = [max(0.0, one["ci95"][1] - one["share"]) for one in found]
        grey = _GREYS[i % len(_GREYS)]
        axes.errorbar(
            at,
            share,
            yerr=[below, above],
            fmt=_MARKS[i % len(_MARKS)],
            color=grey,
            markerfacecolor="white" if name.endswith("model") else grey,
            markersize=5,
            elinewidth=0.8,
            label=name,
        )
    axes.set_xticks(range(len(lines)), labels, fontsize="x-small")
    for edge in range(1, len(lines)):
        axes.axvline(edge - 0.5, color="0.9", linewidth=0.8)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", alpha=0.3)


def _cells(one: dict[str, Any], names: Sequence[str], wide: int) -> str:
    cells = []
    for name in names:
        found = one["survives"].get(name)
        text = (
            "–" if found is None else "{:.2f} {:.2f}–{:.2f}".format(found["share"], *found["ci95"])
        )
        cells.append(f"{text:>{wide}}")
    return " ".join(cells)


def _bin(one: dict[str, Any]) -> str:
    end = one["up_to"]
    return f"> {one['above']:g}" if end is None else f"{one['above']:g}–{end:g}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _median(values: Sequence[float]) -> float | None:
    ordered, n = sorted(values), len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2 if n else None


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
