"""Compare the recipes of studies: mean exact horizons, their ratios and differences by text.

    memcram study run benchmarks/specs/quick.toml
    memcram study run benchmarks/specs/quick-lengths.toml
    python benchmarks/compare.py benchmarks/specs/quick.study benchmarks/specs/quick-lengths.study

The horizon of a text is what a study of kind `horizon` measured, or the longest length of the grid
that free-running decoding returned; between two lengths of a grid nothing is claimed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from memcram.errors import MemcramError, UsageError
from memcram.metrics.statistics import Spread, paired_ratio, spread
from memcram.study.results import ResultRow
from memcram.study.store import Store

Horizons = Mapping[str, int]


@dataclass(frozen=True)
class Setting:
    """What a mean is taken over: the texts of one recipe, model and K."""

    model: str
    vectors: int
    recipe: str


@dataclass(frozen=True)
class Ratio:
    """Mean horizon of one recipe over that of another, and their difference, as `PairedRatio`."""

    over: str
    under: str
    n: int
    ratio: float
    ci95: tuple[float, float] | None
    difference: float
    difference_ci95: tuple[float, float] | None


def horizons(rows: Iterable[ResultRow]) -> dict[Setting, dict[str, int]]:
    """Exact horizon in tokens of each text, by setting and text id."""
    found: dict[Setting, dict[str, int]] = {}
    for row in rows:
        if row.kind not in ("horizon", "capacity"):
            raise UsageError(f"kind {row.kind!r} cannot be compared, allowed: horizon, capacity")
        texts = found.setdefault(Setting(row.model, row.vectors, row.recipe), {})
        held = row.horizon if row.kind == "horizon" or row.exact else 0
        texts[row.text_id] = max(held, texts.get(row.text_id, 0))
    return found


def ratio(over: Setting, a: Horizons, under: Setting, b: Horizons) -> Ratio:
    """The ratio of two means over the texts they share.

    Raises:
        UsageError: they were not measured on the same texts.
    """
    if set(a) != set(b):
        raise UsageError(f"{over.recipe} and {under.recipe} were not measured on the same texts")
    texts = sorted(a)
    found = paired_ratio([a[text] for text in texts], [b[text] for text in texts])
    return Ratio(over.recipe, under.recipe, **vars(found))


def compared(found: Mapping[Setting, Horizons]) -> list[tuple[Setting, Spread, Ratio | None]]:
    """Each setting with its mean, and the ratio of the first recipe of its model and K to it."""
    lines = []
    first: dict[tuple[str, int], Setting] = {}
    for setting, texts in found.items():
        reference = first.setdefault((setting.model, setting.vectors), setting)
        mean = spread([float(tokens) for tokens in texts.values()])
        against = None
        if reference != setting and mean.mean > 0:
            against = ratio(reference, found[reference], setting, texts)
        lines.append((setting, mean, against))
    return lines


def table(lines: Iterable[tuple[Setting, Spread, Ratio | None]]) -> str:
    """One line per setting."""
    head = f"{'recipe':<48} {'K':>3} {'n':>4} {'horizon':>8} {'95 % interval':>15}"
    out = [f"{head}  {'ratio of first':<19}  difference"]
    for setting, mean, against in lines:
        shown = ""
        if against is not None:
            shown = f"{against.ratio:.2f} {_interval(against.ci95):<14}  {against.difference:.2f} "
            shown += _interval(against.difference_ci95)
        out.append(
            f"{setting.recipe:<48} {setting.vectors:>3} {mean.n:>4} {mean.mean:>8.2f} "
            f"{_interval(mean.ci95):>15}  {shown}".rstrip()
        )
    return "\n".join(out)


def _interval(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"[{ends[0]:.2f}, {ends[1]:.2f}]"


@click.command()
@click.argument("stores", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON to write.")
def main(stores: tuple[Path, ...], output: Path | None) -> None:
    """Compare the recipes of the studies in STORES (folders that `memcram study run` wrote)."""
    try:
        lines = compared(horizons(row for store in stores for row in Store(store).rows()))
    except MemcramError as error:
        raise click.ClickException(str(error)) from error
    click.echo(table(lines))
    if output is not None:
        found: list[dict[str, Any]] = [
            {**asdict(setting), "horizon": asdict(mean), "ratio": against and asdict(against)}
            for setting, mean, against in lines
        ]
        output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
