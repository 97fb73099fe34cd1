"""The sections of the ablations, and which figures each has."""

from collections.abc import Callable, Iterator
from functools import partial

from matplotlib.figure import Figure
from pandas import DataFrame

from memcram.report import ablation_data, ablation_figures
from memcram.report.figure_data import Records
from memcram.report.section import Draw, Drawn, Section, drawn_later, file_name

_INTERVALS = "Intervals: bootstrap 95 % of the mean over texts."


def ablation_sections(rows: DataFrame, records: Records) -> Iterator[Section]:
    """One a kind of ablation, and horizons against surprisal; those without data have no figure."""
    yield _surprisal(rows)
    yield _context(rows)
    yield _depth(rows)
    yield _repeat(rows, records)
    yield from _seeds(rows, records)


def _surprisal(rows: DataFrame) -> Section:
    data = ablation_data.surprisal_data(rows)
    return Section(
        "horizon-surprisal",
        "Horizon against surprisal",
        "Each text's horizon against its mean surprisal under the bare LM, over the tokens that "
        "the vectors held (a text of which fewer than two were held is left out). Hollow: "
        "censored, and not in the correlation. ρ with Fisher's interval for ranks.",
        tuple(
            Drawn(
                file_name("horizon-surprisal", f"{name}-k{k}"),
                f"Points: horizon of {len(some)} texts of {name}, K = {k}, against nats a token. "
                f"{ablation_figures.correlation_words(some)}.",
                drawn_later(ablation_figures.surprisal, some),
            )
            for (name, k), some in data.groupby(["label", "vectors"], sort=False)
        ),
        data,
    )


def _context(rows: DataFrame) -> Section:
    data = ablation_data.context_data(rows)
    cells = data.groupby(["label", "source", "length"], sort=False)
    return Section(
        "context",
        "Left context against [mem]",
        "Nats a token and share of right tokens over t₂ … t_N, with the last n tokens before the "
        f"text in front of it, and with [mem] in their place (level lines). {_INTERVALS}",
        tuple(
            Drawn(
                file_name(f"context-{value.replace('_', '-')}", f"{name}-{source}-{length}"),
                f"Line: {words} of {name} on {source} against the tokens of left context; level "
                "lines: with [mem].",
                drawn_later(_of_value(ablation_figures.context, value), some),
            )
            for (name, source, length), some in cells
            for value, words in (("nats_a_token", "nats a token"), ("right", "right tokens"))
        ),
        data,
    )


def _depth(rows: DataFrame) -> Section:
    data = ablation_data.depth_data(rows)
    return Section(
        "depth",
        "Horizon against depth",
        "Mean horizon with the first n layers of the model, its final norm and its head. Censored "
        f"horizons are taken as they are, so that such a mean is a lower bound. {_INTERVALS}",
        tuple(
            Drawn(
                file_name("depth", f"{name}-k{k}"),
                f"Lines: mean horizon of {name}, K = {k}, against the layers kept.",
                drawn_later(ablation_figures.depth, some),
            )
            for (name, k), some in data.groupby(["label", "vectors"], sort=False)
        ),
        data,
    )


def _repeat(rows: DataFrame, records: Records) -> Section:
    data = ablation_data.repeat_data(rows, records)
    cells = data.groupby(["label", "source", "vectors"], sort=False)
    return Section(
        "repeat",
        "The same text twice",
        "A text crammed once, and crammed twice in a row. Accuracy and nats run over t₂ … t_N of "
        "each half; the horizon is cut at the end of each half, so that a second half counts only "
        f"where the first has no miss. {_INTERVALS}",
        tuple(
            Drawn(
                file_name(f"repeat-{value.replace('_', '-')}", f"{name}-{source}-k{k}"),
                f"Lines: {words} of {name} on {source}, K = {k}, against the text's length.",
                drawn_later(_of_value(ablation_figures.halves, value), some),
            )
            for (name, source, k), some in cells
            for value, words in (
                ("accuracy", "accuracy"),
                ("nats_a_token", "nats a token"),
                ("horizon", "horizon"),
            )
        ),
        data,
    )


def _seeds(rows: DataFrame, records: Records) -> Iterator[Section]:
    data = ablation_data.pairs_data(rows, records)
    keys = ["label", "vectors", "length"]
    yield Section(
        "seeds-pairs",
        "Several solutions of one text",
        "Cosine and distance of the vectors that different starts lead to: pairs of one text, and "
        "pairs of different texts at the same number of the start. Pairs that share a solution are "
        "not independent, so no interval is given.",
        tuple(
            Drawn(
                file_name(f"seeds-{value}", f"{name}-k{k}-{length}"),
                f"Histograms: {value} of solutions of {name}, K = {k}, {length} tokens, of the "
                "same text and of different ones.",
                drawn_later(_of_value(ablation_figures.pairs, value), some),
            )
            for (name, k, length), some in data.groupby(keys, sort=False)
            for value in ("cosine", "distance")
            if some[value].notna().any()
        ),
        data,
    )
    data = ablation_data.pca_data(rows, records)
    yield Section(
        "seeds-pca",
        "Solutions on two axes",
        "The same vectors on their first two principal axes.",
        tuple(
            Drawn(
                file_name("seeds-pca", f"{name}-k{k}-{length}"),
                f"Points: {len(some)} solutions of {name}, K = {k}, {length} tokens.",
                drawn_later(ablation_figures.pca, some),
            )
            for (name, k, length), some in data.groupby(keys, sort=False)
        ),
        data,
    )
    yield _path(rows, records)
    data = ablation_data.line_data(rows)
    yield Section(
        "seeds-line",
        "The line between two solutions",
        "Vectors on the straight line between the first two solutions of each text, measured as "
        "they are: share of right tokens under teacher forcing, and share of texts that "
        f"free-running decoding returns whole (Wilson's interval). {_INTERVALS}",
        tuple(
            Drawn(
                file_name("seeds-line", f"{name}-k{k}-{length}"),
                f"Lines: right tokens and exact texts of {name}, K = {k}, {length} tokens, "
                "between two solutions.",
                drawn_later(ablation_figures.line, some),
            )
            for (name, k, length), some in data.groupby(keys, sort=False)
        ),
        data,
    )


def _path(rows: DataFrame, records: Records) -> Section:
    data = ablation_data.path_data(rows, records)
    return Section(
        "seeds-path",
        "Paths from start to solution",
        "[mem] as it was measured at steps evenly spread over the run, from each start to the "
        "vectors that were kept. Every text has axes of its own, the first two principal axes of "
        "all points of its paths: solutions of different texts lie in different directions, so "
        "that axes of all texts together would show less of each. What is not on the two axes is "
        "not seen. How many principal axes take 90 and 99 % of the variance is counted for each "
        "path by itself. A random walk in many dimensions takes 6 for 90 %, and an optimiser with "
        "momentum fewer, so that few axes alone say nothing about the text.",
        tuple(
            Drawn(
                file_name("seeds-path", f"{name}-k{k}-{length}"),
                f"Lines: paths from start to solution of {name}, K = {k}, {length} tokens. "
                f"{ablation_figures.path_words(some)}.",
                drawn_later(ablation_figures.path, some),
            )
            for (name, k, length), some in data.groupby(["label", "vectors", "length"], sort=False)
        ),
        data,
    )


def _of_value(draw: Callable[..., Figure], value: str) -> Draw:
    """A figure of one of the table's values."""
    return partial(draw, value=value)
