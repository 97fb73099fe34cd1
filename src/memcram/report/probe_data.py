"""Compute the table of a report's probes, and the summary of each model."""

import numpy as np
import pandas as pd
from pandas import DataFrame

from memcram.report.data import as_dicts, joined
from memcram.report.figure_data import Records
from memcram.report.html import figure_of
from memcram.report.tables import means, with_passages
from memcram.study.probe_values import probe_values

KEY = ["label", "source", "vectors"]
_AT = ["measure", "context", "layer", "head"]
COLUMNS = [*KEY, "n", "not_exact", "tokens", *_AT, "value", "low", "high"]
_NAMES = {"mem": "[mem]", "passage": "the passage", "none": "nothing", "random": "a random vector"}


def probe_data(rows: DataFrame, records: Records) -> DataFrame:
    """Compute each measure of `memcram.study.probe_values`: mean over texts and 95 % interval.

    Texts whose vectors are not exact are left out and counted in `not_exact`; `tokens` is the
    median length of the others. Attention per head has no interval, and neither has what is the
    same for all texts. `bare_correct` is the fraction of t₂ … t_N that the bare LM predicts.
    """
    probed = with_passages(rows[rows["kind"] == "probe"])
    cells = probed.groupby(KEY, sort=False)
    return joined([_of_cell(cell, records) for _, cell in cells], COLUMNS)


def _of_cell(cell: DataFrame, records: Records) -> DataFrame:
    exact = cell[cell["exact"].astype(bool)]
    texts = []
    for row in as_dicts(exact):
        place = {name: row[name] for name in (*KEY, "passage")}
        values = list(probe_values(records(row["task"]), row["n_counted"]))
        texts += [place | {name: getattr(one, name) for name in (*_AT, "value")} for one in values]
        if values and row["tokens"] > 1:
            bare = row["lm_right"] / (row["tokens"] - 1)
            texts.append(
                place | dict(zip(_AT, ("bare_correct", "", 0, 0), strict=True), value=bare)
            )
    if not texts:
        return DataFrame(columns=COLUMNS)
    data = DataFrame(texts)
    heads = data["measure"] == "attention"
    some = means(data[~heads], [*KEY, *_AT], ["value"])
    some = some.rename(columns={"value_low": "low", "value_high": "high"})
    same = some["measure"].isin(["items", "items_by_length"]) & (some["context"] == "none")
    some.loc[same, ["low", "high"]] = np.nan
    each = data[heads].groupby([*KEY, *_AT], sort=False)["value"].mean().reset_index()
    each = each.assign(n=len(exact), low=np.nan, high=np.nan)
    found = pd.concat([some, each], ignore_index=True)
    counts = {"not_exact": len(cell) - len(exact), "tokens": float(exact["tokens"].median())}
    return found.assign(**counts).reindex(columns=COLUMNS)


def chosen(data: DataFrame, measure: str, context: str | None = None) -> DataFrame:
    """Return the rows of one measure, and of one context unless it is None."""
    found = data[data["measure"] == measure]
    return found if context is None else found[found["context"] == context]


def name_of(context: str) -> str:
    """Return what precedes a text, in words."""
    return _NAMES.get(context, context)


def summary(data: DataFrame) -> list[list[tuple[str, str]]]:
    """Make the table of the page, a row per model, source and K: cells of words and small print."""
    return [
        [_cell(group, *column) for column in _SUMMARY.values()]
        for _, group in data.groupby(KEY, sort=False)
    ]


# Header → column, or measure and context.
_SUMMARY = {
    "Model": ("label",),
    "Texts": ("source",),
    "K": ("vectors",),
    "n": ("n",),
    "Not exact": ("not_exact",),
    "Tokens (median)": ("tokens",),
    "Advantage after [mem] (nats per token)": ("advantage", "mem"),
    "after the passage": ("advantage", "passage"),
    "after nothing": ("advantage", "none"),
    "after a random vector": ("advantage", "random"),
    "[mem] over nothing": ("advantage_over_none", "mem"),
    "passage over nothing": ("advantage_over_none", "passage"),
    "Won after [mem]": ("wins_over_none", "mem"),
    "after the passage (of 1)": ("wins_over_none", "passage"),
    "after a random vector (of 1)": ("wins_over_none", "random"),
    "Attention to [mem]": ("attention_mean", "mem"),
    "to a random vector": ("attention_mean", "random"),
    "Items answered after nothing": ("items_by_length", "none"),
    "change with [mem]": ("items_by_length_change", "mem"),
    "change with a random vector": ("items_by_length_change", "random"),
}
SUMMARY_HEADER = tuple(_SUMMARY)
"""Header of the table of the page."""


def _cell(group: DataFrame, first: str, context: str | None = None) -> tuple[str, str]:
    if context is None:
        value = group[first].iloc[0]
        return (value if isinstance(value, str) else figure_of(value)), ""
    found = chosen(group, first, context)
    if not len(found):
        return figure_of(None), ""
    row = found.iloc[0]
    small = "" if pd.isna(row["low"]) else f"[{figure_of(row['low'])}, {figure_of(row['high'])}]"
    return figure_of(row["value"]), small
