"""How many tokens does a vector hold under each recipe? Same model, texts, starts and budget.

    python benchmarks/capacity.py --quick
    python benchmarks/capacity.py BOOKS -k 1 -k 4 --tune -o benchmarks/results/capacity.json
    python benchmarks/capacity.py BOOKS --race -o benchmarks/results/capacity.json
    python benchmarks/capacity.py BOOKS --half choosing --recipes-file benchmarks/sweeps/rates.txt

Rules of the arena: every recipe predicts t₁; exact is what free-running decoding returns from the
stored vectors; a growing recipe runs once under the budget; any other gets the whole budget at each
length of a grid, and its horizon is the longest length that is exact.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

import memcram
from arena.bouts import Terms, run_bout
from arena.budget import parse_grid
from arena.figures import draw_figures
from arena.race import half_length, run_race, sides_of
from arena.store import Store, digest
from arena.summary import Bout, faults, measured_lengths, ratios, summarise
from arena.tables import race_table, ratio_table, summary_table
from arena.texts import (
    CHOOSING,
    PASSAGE_TOKENS,
    REPORTING,
    draw,
    packaged_passage,
    read_books,
    split_books,
)
from arena.tuning import RATES, tune, with_best_rates
from arena.variants import BASELINE, Entry, parse_entry, read_entries
from memcram.errors import MemcramError, UsageError
from memcram.models import FrozenLM
from memcram.study.horizon import longest_sample
from memcram.texts import TextSample

RECIPES = ("default", BASELINE, "tarasov2026", "tarasov2026+low-dim")
AGAINST = (BASELINE, "tarasov2026")
MAX_TOKENS = 256


@dataclass(frozen=True)
class Size:
    """How much is measured where nothing else is asked for."""

    samples: int
    budget: int
    tune_samples: int
    turns: int


FULL = Size(samples=32, budget=40_000, tune_samples=8, turns=3)
QUICK = Size(samples=8, budget=12_000, tune_samples=2, turns=1)


@dataclass
class Arena:
    """One run: the model, the books in halves, and the file.

    Attributes:
        lm: the frozen model.
        books: content by name, in halves.
        max_tokens: of a sample.
        terms: by K.
        store: finished bouts.
    """

    lm: FrozenLM
    books: dict[str, dict[str, str]]
    max_tokens: int
    terms: dict[int, Terms]
    store: Store

    def samples(self, half: str, count: int) -> list[TextSample]:
        """The same texts for every recipe and K."""
        seed = next(iter(self.terms.values())).seed
        return draw(self.lm, self.books[half], samples=count, max_tokens=self.max_tokens, seed=seed)

    def bout(self, role: str, entry: Entry, samples: Sequence[TextSample], vectors: int) -> Bout:
        """Measured now, or found in the file."""
        terms = self.terms[vectors]
        key = digest(
            {
                "settings": entry.recipe.settings(),
                "grows": entry.grows,
                **({"starts": entry.starts} if entry.starts > 1 else {}),
                "terms": asdict(terms),
                "model": self.lm.identity.fingerprint,
                "dtype": self.lm.dtype_name,
                "texts": [sample.id for sample in samples],
            }
        )
        found = self.store.find(role, key)
        if found is None:
            click.echo(f"{entry.name}, K = {vectors}, {len(samples)} texts ({role})", err=True)
            found = {"role": role, "digest": key} | run_bout(self.lm, entry, samples, terms)
            self.store.put(found)
        return found

    def conditions(self) -> dict[str, Any]:
        """What the numbers depend on, besides each bout's own settings."""
        return {
            "model": asdict(self.lm.identity),
            "dtype": self.lm.dtype_name,
            "device": str(self.lm.device),
            "threads": torch.get_num_threads(),
            "max_tokens": self.max_tokens,
            "terms": [asdict(terms) for terms in self.terms.values()],
            "books": {half: sorted(books) for half, books in self.books.items()},
        }


def measure(
    arena: Arena, entries: Sequence[Entry], half: str, size: Size, rates: Sequence[float]
) -> dict[str, Any]:
    """All recipes at every K: summary, ratios and, with `rates`, how the rates were chosen."""
    samples = arena.samples(half, size.samples)
    lines, pairs, tuned, bouts = [], [], [], []
    for vectors in arena.terms:
        chosen: list[dict[str, Any]] = []
        if rates:
            few = arena.samples(CHOOSING, size.tune_samples)
            chosen = tune(entries, rates, lambda e, k=vectors, t=few: arena.bout("tuning", e, t, k))
        of_k = [
            arena.bout(half, entry, samples, vectors) for entry in with_best_rates(entries, chosen)
        ]
        lengths = measured_lengths(of_k)
        lines += [summarise(bout, lengths) for bout in of_k]
        pairs += ratios(of_k)
        tuned += chosen
        bouts += of_k
    return {"summary": lines, "ratios": pairs, "tuning": tuned, "faults": faults(bouts)}


def race(
    arena: Arena,
    ours: Entry,
    against: Sequence[Entry],
    half: str,
    size: Size,
    length: int | None,
) -> list[dict[str, Any]]:
    """The race at every K, at the given length or where the baseline is exact on half."""
    found = []
    for vectors, terms in arena.terms.items():
        n = length or _length_in(arena.store, half, vectors)
        texts = [sample.ids[:n] for sample in arena.samples(half, size.samples)]
        found.append(run_race(arena.lm, sides_of(ours, against), texts, terms, size.turns))
    return found


def _length_in(store: Store, half: str, vectors: int) -> int:
    for bout in store.report["bouts"]:
        if (bout["role"], bout["recipe"], bout["vectors"]) == (half, BASELINE, vectors):
            return half_length(bout)
    raise UsageError(
        f"--race: the file of -o has no bout of {BASELINE} at K = {vectors}; run the arena first, "
        "or give --race-length"
    )


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    for vectors in sorted({line["vectors"] for line in report.get("summary", [])}):
        lines = [line for line in report["summary"] if line["vectors"] == vectors]
        click.echo(f"\nK = {vectors}, {lines[0]['texts']} texts\n{summary_table(lines)}")
        pairs = [line for line in report["ratios"] if line["vectors"] == vectors]
        if pairs:
            click.echo(f"\n{ratio_table(pairs)}")
    for one in report.get("tuning", []):
        horizons = ", ".join(f"{rate}: {mean:.1f}" for rate, mean in one["horizons"].items())
        click.echo(
            f"{one['recipe']}, K = {one['vectors']}: rate {one['best']:g} of {horizons} "
            f"(published {one['published']:g})"
        )
    for one in report.get("race", []):
        click.echo(f"\n{race_table(one)}")


# -- command ------------------------------------------------------------------------------------


@click.command()
@click.argument("texts", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--model", default="pocket", show_default=True)
@click.option("--device", help="As `load_lm` takes it.")
@click.option("--dtype", default="float32", show_default=True)
@click.option("-k", "--vectors", multiple=True, type=click.IntRange(min=1), default=[1])
@click.option("--samples", type=click.IntRange(min=1), help="Texts.  [default: 32]")
@click.option("--budget", type=click.IntRange(min=1), help="Token-steps a text.  [default: 40000]")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Of a text.  [default: 256]")
@click.option("--grid", help="Lengths, such as 4,6,8.  [default: 4, 6, … 16, 20, … 64, …]")
@click.option("--recipe", "-r", "names", multiple=True, help="Name, or name@key=value,…")
@click.option("--recipes-file", type=click.Path(path_type=Path), help="One of these a line.")
@click.option("--half", type=click.Choice([CHOOSING, REPORTING]), default=REPORTING)
@click.option("--seed", default=0, show_default=True)
@click.option("--tune", "tuning", is_flag=True, help="Published recipes at their best rate, too.")
@click.option("--rates", help="To tune over.  [default: 0.01,0.03,0.1,0.3,1,3]")
@click.option("--tune-samples", type=click.IntRange(min=1), help="Texts to tune on.  [default: 8]")
@click.option("--race", "racing", is_flag=True, help="Seconds until exact, instead of horizons.")
@click.option("--race-length", type=click.IntRange(min=1), help="Tokens of each text.")
@click.option("--race-against", multiple=True, default=AGAINST, show_default=True)
@click.option("--turns", type=click.IntRange(min=1), help="Of the race.  [default: 3]")
@click.option("--quick", is_flag=True, help="Small, under 15 minutes; TEXTS may be left out.")
@click.option("--figures", type=click.Path(path_type=Path), help="Folder for PNG and SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="JSON; finished bouts stay.")
def main(**options: Any) -> None:
    """Measure recipes side by side on TEXTS (files, or folders of .txt)."""
    try:
        run(**options)
    except MemcramError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


def run(
    *, names: tuple[str, ...], recipes_file: Path | None, half: str, racing: bool, **rest: Any
) -> None:
    """The command, after parsing."""
    lines = [*names, *(read_entries(recipes_file) if recipes_file else [])] or list(RECIPES)
    entries = [parse_entry(line) for line in lines]
    against = [parse_entry(line) for line in rest["race_against"]] if racing else []
    rates = _rates(rest["rates"]) if rest["tuning"] else ()
    size = _size(rest)
    arena = _open(rest, size)
    for name, books in arena.books.items():
        click.echo(f"books for {name}: {', '.join(sorted(books))}", err=True)
    if racing:
        found = {"race": race(arena, entries[0], against, half, size, rest["race_length"])}
    else:
        found = measure(arena, entries, half, size, rates)
    arena.store.save(conditions=arena.conditions(), **found)
    for sentence in found.get("faults", []):
        click.echo(f"warning: {sentence}", err=True)
    if rest["figures"] and not racing:
        reported = {(line["recipe"], line["vectors"]) for line in found["summary"]}
        bouts = [
            bout
            for bout in arena.store.report["bouts"]
            if bout["role"] == half and (bout["recipe"], bout["vectors"]) in reported
        ]
        budget = rest["budget"] or size.budget
        for path in draw_figures(bouts, measured_lengths(bouts), budget, rest["figures"]):
            click.echo(f"  wrote {path}", err=True)
    if rest["as_json"]:
        click.echo(json.dumps(arena.store.report, indent=1))
    else:
        show(found)


def _size(given: dict[str, Any]) -> Size:
    """What was asked for, the rest by --quick."""
    usual = asdict(QUICK if given["quick"] else FULL)
    return Size(**{name: given[name] or value for name, value in usual.items()})


def _open(given: dict[str, Any], size: Size) -> Arena:
    """Everything that can be refused is refused here, before any work."""
    if not given["texts"] and not given["quick"]:
        raise UsageError("TEXTS: got none, allowed: files or folders of .txt (or --quick)")
    store = Store(given["output"])
    grid = parse_grid(given["grid"]) if given["grid"] else None
    if given["texts"]:
        contents = read_books(given["texts"])
        halves = split_books(list(contents))
    else:
        contents = packaged_passage()
        halves = {half: list(contents) for half in (CHOOSING, REPORTING)}
    lm = memcram.load_lm(given["model"], device=given["device"], dtype=given["dtype"])
    longest = min(longest_sample(lm, vectors) for vectors in given["vectors"])
    usual = MAX_TOKENS if given["texts"] else PASSAGE_TOKENS
    if given["max_tokens"] and given["max_tokens"] > longest:
        raise UsageError(f"--max-tokens: got {given['max_tokens']}, allowed: 1 to {longest}")
    return Arena(
        lm=lm,
        books={half: {name: contents[name] for name in part} for half, part in halves.items()},
        max_tokens=given["max_tokens"] or min(longest, usual),
        terms={k: Terms(k, size.budget, grid, given["seed"]) for k in given["vectors"]},
        store=store,
    )


def _rates(text: str | None) -> tuple[float, ...]:
    if text is None:
        return RATES
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--rates: got {text!r}, allowed: numbers such as 0.1,0.3") from error
    return rates


if __name__ == "__main__":
    main()
