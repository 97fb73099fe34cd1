"""What the arena prints."""

from collections.abc import Sequence
from typing import Any

# As many lengths as fit beside the other columns.
_LENGTHS_SHOWN = 8


def summary_table(lines: Sequence[dict[str, Any]]) -> str:
    """Recipes of one K, one line each."""
    lengths = _some(list(lines[0]["share_exact"])) if lines else []
    wide = max([len(line["recipe"]) for line in lines] + [6])
    head = (
        f"{'recipe':<{wide}} {'horizon':>8} {'95 % interval':>14} {'token-steps':>12} "
        f"{'seconds':>8} {'margin':>7}  exact at " + " ".join(f"{n:>4}" for n in lengths)
    )
    notes = ["token-steps and seconds: until the horizon was held; –: not measured"]
    notes += [
        f"{line['recipe']}: {line['censored']} of {line['texts']} texts ended before their horizon"
        for line in lines
        if line["censored"]
    ]
    return "\n".join([head, *(_summary_line(line, lengths, wide) for line in lines), *notes])


def _summary_line(line: dict[str, Any], lengths: Sequence[str], wide: int) -> str:
    low, high = line["horizon_ci95"] or (line["horizon"], line["horizon"])
    shares = " ".join(f"{_number(line['share_exact'][n], '.2f'):>4}" for n in lengths)
    return (
        f"{line['recipe']:<{wide}} {line['horizon']:>8.2f} {f'{low:.2f}–{high:.2f}':>14} "
        f"{_number(line['token_steps_to_exact'], ',.0f'):>12} "
        f"{_number(line['seconds_to_exact'], '.1f'):>8} "
        f"{_number(line['smallest_margin'], '.3f'):>7}           {shares}"
    )


def ratio_table(lines: Sequence[dict[str, Any]]) -> str:
    """Ratios of mean horizons, one line a pair."""
    wide = max([len(f"{line['over']} / {line['under']}") for line in lines] + [6])
    out = [f"{'horizons':<{wide}} {'ratio':>6} {'95 % interval':>14} {'at least':>9} {'n':>4}"]
    for line in lines:
        pair = f"{line['over']} / {line['under']}"
        interval = "{:.2f}–{:.2f}".format(*line["ci95"]) if line["ci95"] else "–"
        out.append(
            f"{pair:<{wide}} {_number(line['ratio'], '.2f'):>6} {interval:>14} "
            f"{_number(line['at_least'], '.2f'):>9} {line['texts']:>4}"
        )
    return "\n".join(out)


def race_table(race: dict[str, Any]) -> str:
    """Sides of the race, then ratios of seconds."""
    texts, length = race["texts"], race["length"]
    out = [
        f"{texts} texts of {length} tokens, K = {race['vectors']}, sides in turns",
        f"{'side':<44} {'seconds':>9} {'exact':>7} {'failed':>7}  (median of {race['turns']})",
    ]
    for side in race["sides"]:
        out.append(
            f"{side['name']:<44} {side['seconds']:>9.1f} {side['exact']:>7g} {side['failed']:>7g}"
        )
    for line in race["ratios"]:
        pair = f"{line['over']} / {line['under']}"
        span = f"{line['low']:.2f}–{line['high']:.2f}"
        out.append(f"{pair}: {line['ratio']:.2f} ({span}, n = {line['n']}); {line['reading']}")
    return "\n".join(out)


def _some(values: list[str]) -> list[str]:
    """At most so many, evenly picked, the first and the last among them."""
    if len(values) <= _LENGTHS_SHOWN:
        return values
    step = (len(values) - 1) / (_LENGTHS_SHOWN - 1)
    return [values[round(i * step)] for i in range(_LENGTHS_SHOWN)]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
