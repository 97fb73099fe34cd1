"""Which figures a report has: each section with its data, its caption and what to draw."""

from collections.abc import Iterator

from pandas import DataFrame

from memcram.metrics.tokens import ACCURACY_THRESHOLD as THRESHOLD
from memcram.report import figure_data, figures, token_figures
from memcram.report.ablation_sections import ablation_sections
from memcram.report.drawing import largest
from memcram.report.figure_data import Records
from memcram.report.section import Drawn, Section, drawn_later, file_name, with_names_apart

_FITTED = f"texts with teacher-forced accuracy ≤ {THRESHOLD}"


def sections(rows: DataFrame, table: DataFrame, records: Records) -> list[Section]:
    """All sections that have anything to draw.

    Args:
        rows: the results table with `label`; empty for a report of published values alone.
        table: Table 1, with the published values beside it.
        records: token record of a task.
    """
    found = [*_of_table(table)]
    if len(rows):
        own = rows[rows["kind"].isin(("capacity", "horizon"))]
        found += [*_of_rows(own, records), *ablation_sections(rows, records)]
    return with_names_apart(section for section in found if section.figures)


def _of_table(table: DataFrame) -> Iterator[Section]:
    data = figure_data.max_tokens_data(table)
    words = _largest(data, "max_tokens", "tokens")
    yield Section(
        "figure-1",
        "Max tokens per model (Figure 1)",
        f"The largest length whose texts are right to ≥ {THRESHOLD} on average under teacher "
        "forcing. The thin line ends at the next measured length, which failed: the capacity lies "
        "between. Hollow: published values (PG-19 stands under books).",
        (
            Drawn(
                "figure-1",
                f"Bars: max tokens per model. {words}",
                drawn_later(figures.max_tokens, data),
            ),
        ),
        data,
    )
    data = figure_data.bound_data(table)
    words = _largest(data, "token_gain", "tokens gained")
    bars = data[data["source"] != "fanfics"].reset_index(drop=True)
    share = _largest(bars.assign(percent=100 * bars["utilisation"]), "percent", "% of the bound")
    yield Section(
        "figure-5",
        "Capacity bound and utilisation (Figure 5)",
        "First: mean token gain against the bound width · 16 / log₂|V|; the area of a mark "
        "grows with the model's parameters. Second: gain over bound. Intervals: bootstrap 95 % of "
        f"the mean over {_FITTED}; published values were printed without.",
        (
            Drawn(
                "figure-5-bound",
                f"Marks: token gain against bound. {words}",
                drawn_later(figures.bound_against_gain, data),
            ),
            Drawn(
                "figure-5-utilisation",
                f"Bars: utilisation per model. {share}",
                drawn_later(figures.utilisation, bars),
            ),
        )
        if len(bars)
        else (),
        data,
    )
    data = figure_data.vectors_data(table)
    own = set(data.loc[~data["published"].astype(bool), "label"]) or set(data["label"])
    varied = data[data["label"].isin(own)].groupby("label")["vectors"].nunique()
    several = [str(name) for name, count in varied.items() if count > 1]
    yield Section(
        "figure-4",
        "Capacity against the number of vectors (Figure 4)",
        "Max tokens and information gain against K. Dotted: K times what the fewest vectors hold. "
        "Grey bar: the longest text the model has positions for, beside K vectors. Intervals of "
        f"the gain: bootstrap 95 % of the mean over {_FITTED}.",
        tuple(_vectors_figures(data, several)),
        data[data["label"].isin(several)],
    )


def _vectors_figures(data: DataFrame, labels: list[str]) -> Iterator[Drawn]:
    for name in labels:
        some = data[data["label"] == name]
        if some["max_tokens"].notna().any():
            alt = f"Lines: max tokens of {name} against K. {_largest(some, 'max_tokens', 'tokens')}"
            yield Drawn(
                file_name("figure-4", name), alt, drawn_later(figures.capacity_by_vectors, some)
            )
        gain = some[some["information_gain_nats"].notna()]
        if gain["vectors"].nunique() > 1:
            words = _largest(gain, "information_gain_nats", "nats")
            alt = f"Lines: information gain of {name} against K. {words}"
            yield Drawn(
                file_name("figure-4-gain", name), alt, drawn_later(figures.gain_by_vectors, some)
            )


def _of_rows(rows: DataFrame, records: Records) -> Iterator[Section]:
    data = _fewest_vectors(figure_data.cross_entropy_data(rows))
    yield Section(
        "figure-3",
        "Surprise with and without [mem] (Figures 3 and 6)",
        "Cross-entropy of each text under the bare LM against that with [mem], in nats over "
        "t₂ … t_N; triangles: random texts; hollow: texts held whole. Black: slope 1 through the "
        "mean; it meets zero at the threshold (dotted), the mean information gain. Dashed: a free "
        f"line with the bootstrap 95 % interval of its slope. Both are fitted to {_FITTED}.",
        tuple(
            Drawn(
                file_name("figure-3", str(name)),
                f"Points: cross-entropy of {len(some)} texts of {name} with [mem] against that "
                "under the bare LM.",
                drawn_later(figures.cross_entropy, some),
            )
            for name, some in data.groupby("label", sort=False)
        ),
        data,
    )
    data = figure_data.horizons_data(rows)
    yield Section(
        "horizon-curves",
        "Horizons",
        "Share of texts of which at least so many tokens are exact, decoded free-running from the "
        "stored vectors (Kaplan–Meier). A cross marks a text that ended before its horizon did.",
        tuple(
            Drawn(
                file_name("horizon-curves", f"{name}-k{k}"),
                f"Steps: share of texts of {name}, K = {k}, exact up to each token.",
                drawn_later(token_figures.horizons, some),
            )
            for (name, k), some in data.groupby(["label", "vectors"], sort=False)
        ),
        data,
    )
    yield from _of_tokens(rows, records)


def _of_tokens(rows: DataFrame, records: Records) -> Iterator[Section]:
    data = figure_data.curves_data(_fewest_vectors(rows[rows["kind"] == "capacity"]), records)
    yield Section(
        "learning-curves",
        "Learning curves",
        "Tokens right under teacher forcing after so many optimiser steps: thin a text, thick the "
        "median of a length; a run that has ended keeps its last value.",
        tuple(
            Drawn(
                file_name("learning-curves", str(name)),
                f"Lines: tokens right against optimiser steps, {some['task'].nunique()} texts of "
                f"{name}.",
                drawn_later(token_figures.learning_curves, some),
            )
            for name, some in data.groupby("label", sort=False)
        ),
        data,
    )
    data = figure_data.positions_data(rows, records)
    yield Section(
        "accuracy-by-position",
        "Accuracy by token position",
        "Share of tokens that are right under teacher forcing, by place in the text (bins 1, 2, "
        f"3–4, 5–8, …), over {_FITTED}. Intervals: bootstrap 95 % of the mean over texts.",
        tuple(
            Drawn(
                file_name("accuracy-by-position", str(name)),
                f"Lines: share of right tokens of {name} against their place in the text.",
                drawn_later(token_figures.accuracy_by_position, some),
            )
            for name, some in data.groupby("label", sort=False)
        ),
        data,
    )


def _fewest_vectors(rows: DataFrame) -> DataFrame:
    fewest = rows.groupby("label")["vectors"].transform("min")
    return rows[rows["vectors"] == fewest]


def _largest(data: DataFrame, column: str, unit: str) -> str:
    if not data[column].notna().any():
        return ""
    best = largest(data, column)
    return f"The largest: {best[column]:,.4g} {unit} ({best['label']}, {best['source']})."
