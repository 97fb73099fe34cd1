"""Write the head of a report: title, notices, key numbers and what was measured."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from pandas import DataFrame

from memcram.metrics.tokens import ACCURACY_THRESHOLD
from memcram.report.data import ReportData, as_dicts
from memcram.report.drawing import largest
from memcram.report.html import figure_of, is_missing

_OPPONENTS = ("kuratov2025", "tarasov2026")  # recipes of published papers begin so


def title_of(data: ReportData) -> str:
    """Title of a report: its models."""
    if not len(data.rows):
        return "What fits into [mem]: published"
    names = data.rows["label"].str.split(" · ").str[0].drop_duplicates()
    return f"What fits into [mem]: {', '.join(names)}"


def subtitle_of(rows: DataFrame) -> str:
    """One line about all rows."""
    if not len(rows):
        return "The published values alone; nothing was measured here."
    counts = [
        (len(rows), "texts crammed and measured"),
        (rows["model"].nunique(), "models"),
        (rows["recipe"].nunique(), "recipes"),
        (rows["source"].nunique(), "text sources"),
    ]
    words = [f"{n:,} {what[:-1] if n == 1 and what[-1] == 's' else what}" for n, what in counts]
    return ", ".join(words) + f": {', '.join(sorted(rows['source'].unique()))}."


def notices_of(data: ReportData, horizons: DataFrame) -> Iterator[str]:
    """What a reader must know before any number."""
    for part in data.unfinished:
        failed = f"; {part.failed:,} failed" if part.failed else ""
        yield (
            f"Unfinished: {part.name} has {len(part.rows):,} of {part.planned:,} texts{failed}. "
            "Everything below is based on these."
        )
    known = horizons.dropna(subset=["budget_ended"])
    ended = int(known["budget_ended"].sum())
    if ended:
        yield (
            f"The budget ended {ended:,} of {int(known['n'].sum()):,} texts whose horizons were "
            "measured: their means are lower bounds. A larger budget may give more."
        )


def measured_table(rows: DataFrame) -> list[dict[str, Any]]:
    """What was measured: one row per study, model, kind, K and source."""
    if not len(rows):
        return []
    model = rows["label"].str.split(" · ").str[0]
    keys = ["study", "short", "parameters", "kind", "vectors", "source"]
    found = []
    for key, some in rows.assign(short=model).groupby(keys, sort=False):
        ended, budgets = some["budget_ended"], some["budget_token_steps"].dropna()
        recipes = some["recipe"].unique()
        cost = some["token_steps"].mean()
        found.append(
            dict(zip(keys, key, strict=True))
            | {
                "n": some["text_id"].nunique(),
                "rows": len(some),
                "recipes": recipes[0] if len(recipes) == 1 else f"{len(recipes)} recipes",
                "lengths": _range(some["length"]),
                "budget": _range(budgets) if len(budgets) else None,
                "token_steps": cost,
                "ended": None if ended.isna().any() else int(ended.sum()),
                "is_horizon": key[3] == "horizon",
            }
        )
    return found


def _range(values: "pd.Series[Any]") -> str:
    low, high = values.min(), values.max()
    return figure_of(low) if low == high else f"{figure_of(low)} to {figure_of(high)}"


def key_numbers(table: DataFrame, horizons: DataFrame, rows: DataFrame) -> list[dict[str, str]]:
    """Key numbers of the fewest vectors: value, unit and words.

    Args:
        table: Table 1 of what was measured, or the published one.
        horizons: the table of horizons, including the published values.
        rows: the results table; empty for published values.
    """
    numbers = [] if not len(table) else list(_capacity_numbers(table))
    own = horizons[~horizons["published"].astype(bool)]
    for group in own["group"].drop_duplicates():
        numbers += _horizon_numbers(horizons[horizons["group"] == group])
    if len(rows):
        shown = f"{int(rows['exact'].sum()):,} of {len(rows):,}"
        words = "exact: what the vectors hold was decoded completely, free-running"
        numbers.append({"value": shown, "unit": "texts", "words": words})
    return numbers


def _capacity_numbers(table: DataFrame) -> Iterator[dict[str, str]]:
    fewest = table[table["vectors"] == table["vectors"].min()]
    at_least = f"maximum at teacher-forced accuracy ≥ {ACCURACY_THRESHOLD}"
    for column, unit, words in (
        ("max_tokens", "tokens", f"in {{k}}: {at_least}"),
        ("information_gain_nats", "nats", "mean information gain of {k}"),
        ("token_gain", "tokens", "mean token gain of {k}"),
    ):
        if fewest[column].notna().any():
            yield _number(largest(fewest, column), column, unit, words)


def _horizon_numbers(group: DataFrame) -> Iterator[dict[str, str]]:
    """The best mean of a model, and its ratios to the best opponent and published value."""
    own = group[~group["published"].astype(bool)]
    own = own[own["vectors"] == own["vectors"].min()]
    best = largest(own, "horizon_tokens")
    is_bound = best["censored_share"] > 0 or (best["budget_ended"] or 0) > 0
    unit = f"tokens{_interval(best, 'horizon_tokens')}"
    value = f"{'≥ ' if is_bound else ''}{figure_of(best['horizon_tokens'])}"
    of = f"{best['name']}, {best['group']}, {best['source']}, n = {best['n']}"
    yield {"value": value, "unit": unit, "words": f"mean exact horizon of {_k(best)} ({of})"}
    rivals = group[
        (group["source"] == best["source"])
        & (group["vectors"] == best["vectors"])
        & group["ratio"].notna()
    ]
    published = rivals["published"].astype(bool)
    is_opponent = rivals["recipe"].str.startswith(_OPPONENTS) & ~published
    for some, words in (
        (
            rivals[is_opponent],
            "as many tokens with {2} as with {0}, the best other recipe of the papers run here; "
            "same budget, paired by text",
        ),
        (rivals[published], "as many tokens as published ({0}, {1}); other texts, not paired"),
    ):
        if len(some):
            row = largest(some, "horizon_tokens")
            unit = f"times{_interval(row, 'ratio')}"
            said = words.format(row["recipe"], row["label"], row["best"])
            yield {"value": figure_of(row["ratio"]), "unit": unit, "words": said}


def _interval(row: "pd.Series[Any]", column: str) -> str:
    low = row.get(f"{column}_low")
    return "" if is_missing(low) else f" [{figure_of(low)}, {figure_of(row[column + '_high'])}]"


def _k(row: "pd.Series[Any]") -> str:
    return "one vector" if row["vectors"] == 1 else f"{row['vectors']} vectors"


def _number(row: "pd.Series[Any]", column: str, unit: str, words: str) -> dict[str, str]:
    interval = _interval(row, column)
    if column == "information_gain_nats":
        bits, each = row["information_gain_bits"], row["bits_per_dimension"]
        unit = f"nats{interval} = {figure_of(bits)} bits = {figure_of(each)} bits per dimension"
    else:
        unit = f"{unit}{interval}"
    of = f"{row['label']}, {row['source']}" + (", published" if row["published"] else "")
    value = figure_of(row[column])
    return {"value": value, "unit": unit, "words": f"{words.format(k=_k(row))} ({of})"}


def horizon_blocks(horizons: DataFrame) -> Iterator[list[tuple[str, list[dict[str, Any]]]]]:
    """Blocks of a model each, with their rows: those measured here, and the others."""
    blocks = [(str(name), as_dicts(rows)) for name, rows in horizons.groupby("group", sort=False)]
    for only_published in (False, True):
        yield [one for one in blocks if all(r["published"] for r in one[1]) == only_published]
