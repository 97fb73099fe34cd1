"""Each published recipe at its own best learning rate, chosen on books that are not reported."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from arena.summary import Bout, best_rate
from arena.variants import Entry, parse_entry, with_override

RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_OURS = "default"


def tune(
    entries: Sequence[Entry], rates: Sequence[float], measure: Callable[[Entry], Bout]
) -> list[dict[str, Any]]:
    """Run every published recipe at every rate, and pick.

    Args:
        entries: those that begin with `default` are left out: it was chosen elsewhere.
        rates: learning rates.
        measure: runs one entry on the texts for choosing.
    """
    found = []
    for entry in entries:
        if entry.base == _OURS:
            continue
        tried = [
            (rate, measure(parse_entry(with_override(entry.name, "optimiser.lr", rate))))
            for rate in rates
        ]
        best = best_rate(tried)
        if len(rates) > 1 and best in (min(rates), max(rates)):
            click.echo(
                f"warning: {entry.name}: the best rate {best:g} is the end of those tried", err=True
            )
        found.append(
            {
                "recipe": entry.name,
                "vectors": tried[0][1]["vectors"],
                "published": entry.recipe.optimiser.lr,
                "best": best,
                "horizons": {
                    f"{rate:g}": sum(row["horizon"] for row in bout["rows"]) / len(bout["rows"])
                    for rate, bout in tried
                },
            }
        )
    return found


def with_best_rates(entries: Sequence[Entry], tuned: Sequence[dict[str, Any]]) -> list[Entry]:
    """The entries, each followed by itself at its best rate where that is another."""
    best = {one["recipe"]: one["best"] for one in tuned if one["best"] != one["published"]}
    found: list[Entry] = []
    for entry in entries:
        found.append(entry)
        if entry.name in best:
            found.append(parse_entry(with_override(entry.name, "optimiser.lr", best[entry.name])))
    return found
