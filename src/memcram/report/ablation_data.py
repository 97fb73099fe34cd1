"""Compute the tables that the figures of the ablations draw, from rows and token records."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame

from memcram.metrics.statistics import wilson95
from memcram.report.data import as_dicts, joined
from memcram.report.figure_data import Records
from memcram.report.tables import means, with_passages
from memcram.study.results import TokenRecord

_CELL = ["label", "source", "vectors", "length"]


def _rows_of(rows: DataFrame, kind: str) -> DataFrame:
    """Rows of a kind with their passage."""
    chosen = with_passages(rows[rows["kind"] == kind])
    return chosen.assign(condition=chosen["condition"].fillna(""))


def _number(condition: str) -> float:
    """`context=64` → 64."""
    return float(condition.partition("=")[2])


def context_data(rows: DataFrame) -> DataFrame:
    """Compute nats and fraction correct per token after `[mem]`, and after n tokens of context.

    They run over t₂ … t_N. `with_` is `[mem]` (of K = `vectors`) or `context` (of `context` tokens,
    0 for the bare LM).
    """
    texts = _rows_of(rows, "context")
    texts = texts[texts["tokens"] > 1]
    is_context, counted = texts["condition"] != "", texts["tokens"] - 1
    after = texts.assign(
        with_=np.where(is_context, "context", "[mem]"),
        context=[int(_number(name)) if name else 0 for name in texts["condition"]],
        nats_a_token=texts["mem_nats"] / counted,
        right=texts["mem_right"] / counted,
    )
    bare = texts.assign(
        with_="context",
        context=0,
        vectors=0,
        nats_a_token=texts["lm_nats"] / counted,
        right=texts["lm_right"] / counted,
    ).drop_duplicates(["label", "passage", "length"])  # every row has them; each text counts once
    keys = ["label", "source", "length", "with_", "vectors", "context"]
    return means(pd.concat([after, bare]), keys, ["nats_a_token", "right"])


def repeat_data(rows: DataFrame, records: Records) -> DataFrame:
    """Compute accuracy, nats per token and horizon of a text, and of both halves when doubled.

    Accuracy and nats run over t₂ … t_N of each half. The horizon is that of the whole, cut at the
    end of each half: a second half only has one if the first has no miss.
    """
    texts = []
    for row in as_dicts(_rows_of(rows, "repeat")):
        record = records(row["task"])
        bos, twice = int(row["bos_in_text"]), row["condition"] != ""
        n = (row["tokens"] - bos) // (1 + twice)
        held = row["horizon"] - bos + int(row["first_token_given"])
        for half, name in enumerate(("first half", "second half") if twice else ("once",)):
            first = bos + half * n
            counted = slice(first + 1, first + n)
            values = {
                "length": n + bos,
                "part": name,
                "accuracy": float((record.mem_ranks[counted] == 0).double().mean()),
                "nats_a_token": float(record.mem_nats[counted].double().mean()),
                "horizon": min(n, max(0, held - half * n)),
            }
            texts += [row | values] if n > 1 else []
    return means(DataFrame(texts), [*_CELL, "part"], ["accuracy", "nats_a_token", "horizon"])


def pairs_data(rows: DataFrame, records: Records) -> DataFrame:
    """Compute cosine and Euclidean distance of solutions of the same text, and of different ones.

    K vectors count as one long vector. Different texts are compared at the same init number.
    """
    columns = ["label", "vectors", "length", "texts", "first", "second", "cosine", "distance"]
    found = []
    for key, solutions in _solutions(rows):
        mems = _mems(solutions, records)
        finite = [one for one in solutions if one["task"] in mems]
        for one, other in combinations(finite, 2):
            same = one["passage"] == other["passage"]
            if not same and one["condition"] != other["condition"]:
                continue
            a, b = mems[one["task"]], mems[other["task"]]
            norm = float(np.linalg.norm(a) * np.linalg.norm(b))
            cosine = float(a @ b) / norm if norm else np.nan
            distance = float(np.linalg.norm(a - b))
            texts = "same" if same else "different"
            found.append([*key, texts, one["task"], other["task"], cosine, distance])
    return DataFrame(found, columns=columns)


def pca_data(rows: DataFrame, records: Records) -> DataFrame:
    """Project solutions on the first two principal axes of all solutions of their length and K.

    `first_share` and `second_share` are the fractions of variance that the axes explain.
    """
    columns = ["label", "vectors", "length", "source", "text_id", "start", "first", "second"]
    frames = []
    for key, solutions in _solutions(rows):
        mems = _mems(solutions, records)
        if len(mems) < 3:
            continue
        points, shares = _principal(np.stack(list(mems.values())))
        finite = [one for one in solutions if one["task"] in mems]
        values = [
            [*key, one["source"], one["text_id"], int(_number(one["condition"])), *point]
            for one, point in zip(finite, points.tolist(), strict=True)
        ]
        frame = DataFrame(values, columns=columns)
        frames.append(frame.assign(first_share=shares[0], second_share=shares[1]))
    return joined(frames, [*columns, "first_share", "second_share"])


def path_data(rows: DataFrame, records: Records) -> DataFrame:
    """Project paths from init to solution on the first two principal axes of their text's paths.

    A path ends at its solution, even if more was measured; K vectors count as one long vector.
    `first_share` and `second_share` are the fractions of variance of the text's points that the
    axes explain. `axes_90` and `axes_99` count the principal axes of one path alone that explain
    90 and 99 % of its variance; a path of one point has none.
    """
    columns = ["label", "vectors", "length", "source", "text_id", "start", "step"]
    every = [*columns, "first", "second", "first_share", "second_share", "axes_90", "axes_99"]
    frames = []
    for key, solutions in _solutions(rows):
        of_text: dict[str, list[DataFrame]] = {}
        vectors: dict[str, list[NDArray[np.float64]]] = {}
        for one in solutions:
            steps, points = way(records(one["task"]))
            if len(steps):
                place = [*key, one["source"], one["text_id"], int(_number(one["condition"]))]
                frame = DataFrame([[*place, step] for step in steps], columns=columns)
                axes = {"axes_90": axes_taken(points, 0.90), "axes_99": axes_taken(points, 0.99)}
                of_text.setdefault(one["passage"], []).append(frame.assign(**axes))
                vectors.setdefault(one["passage"], []).append(points)
        for passage, paths in of_text.items():
            points = np.concatenate(vectors[passage])
            if len(points) < 3:
                continue
            places, shares = _principal(points)
            frame = pd.concat(paths, ignore_index=True)
            frame = frame.assign(first=places[:, 0], second=places[:, 1])
            frames.append(frame.assign(first_share=shares[0], second_share=shares[1])[every])
    return joined(frames, every)


def way(record: TokenRecord) -> tuple[list[int], NDArray[np.float64]]:
    """Return steps and points (points, K · width) from the init to the solution.

    There are none if no path was kept, or if its end is not finite and thus not a solution.
    """
    if record.path is None or record.path_steps is None:
        return [], np.empty((0, 0))
    steps = record.path_steps.numpy()
    points = record.path.double().flatten(1).numpy()
    finite = np.isfinite(points).all(1)
    if not finite[-1]:
        return [], np.empty((0, 0))
    wanted = (steps <= steps[-1]) & finite
    return steps[wanted].tolist(), points[wanted]


def axes_taken(points: NDArray[np.float64], share: float) -> float:
    """Count the principal axes that explain a fraction of the variance; NaN without variance."""
    size = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    if not size.sum():
        return float("nan")
    return float(np.searchsorted(size.cumsum() / size.sum(), share - 1e-12) + 1)


def _solutions(rows: DataFrame) -> Iterator[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Label, K and length, with the rows of the starts."""
    texts = _rows_of(rows, "seeds")
    texts = texts[texts["condition"].str.startswith("start=")]
    for key, group in texts.groupby(["label", "vectors", "length"], sort=False):
        yield key, as_dicts(group)


def _mems(solutions: Sequence[dict[str, Any]], records: Records) -> dict[str, NDArray[np.float64]]:
    """Return the vectors (K · width,) of each finite solution, by its task."""
    tasks = [one["task"] for one in solutions]
    flat = {task: np.asarray(records(task).mem.double().numpy()).ravel() for task in tasks}
    return {task: mem for task, mem in flat.items() if np.isfinite(mem).all()}


def _principal(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[float]]:
    """Compute (n, 2) coordinates on the first two principal axes, and their fractions of variance.

    The sign of an axis makes its largest deviation positive, so that figures are reproducible.
    """
    centred = values - values.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * size[:2]
    largest = np.abs(points).argmax(0)
    points = points * np.where(points[largest, [0, 1]] < 0, -1.0, 1.0)
    total = float((size**2).sum()) or 1.0
    return points, [float(one) ** 2 / total for one in size[:2]]


def line_data(rows: DataFrame) -> DataFrame:
    """Compute accuracy and fraction of exact texts on the line from one solution to another.

    `share` is 0 at the solution of the first init, 1 at that of the second.
    """
    texts = _rows_of(rows, "seeds")
    ends = {"start=0": 0.0, "start=1": 1.0}
    is_on_line = texts["condition"].isin(ends) | texts["condition"].str.startswith("line=")
    texts = texts[is_on_line]
    shares = [ends[name] if name in ends else _number(name) for name in texts["condition"]]
    found = means(texts.assign(share=shares), [*_CELL, "share"], ["accuracy", "exact"])
    wilson = [wilson95(mean, n) for mean, n in zip(found["exact"], found["n"], strict=True)]
    found[["exact_low", "exact_high"]] = np.array(wilson).reshape(-1, 2)
    return found


def depth_data(rows: DataFrame) -> DataFrame:
    """Compute the mean horizon (tokens) with the first n layers, and the censored fraction."""
    texts = _rows_of(rows, "depth")
    keys = ["label", "source", "vectors", "layers"]
    censored = texts["censored"].astype(float).groupby([texts[key] for key in keys]).mean()
    return means(texts, keys, ["horizon"]).join(censored.rename("censored_share"), on=keys)


def surprisal_data(rows: DataFrame) -> DataFrame:
    """Compute each text's horizon (tokens), and the bare LM's nats per token over what was held.

    The mean runs over t₂ … t_N of the prefix that the vectors held. A text with fewer than two held
    tokens has none.
    """
    columns = ["label", "source", "vectors", "text_id", "horizon", "censored", "nats_a_token"]
    texts = _rows_of(rows, "horizon")
    texts = texts[(texts["tokens"] > 1) & (texts["condition"] == "")]
    found = texts.assign(nats_a_token=texts["lm_nats"] / (texts["tokens"] - 1))[columns]
    return found.sort_values(columns[:4], ignore_index=True)
