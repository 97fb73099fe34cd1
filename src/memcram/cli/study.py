"""The command group `study`: new, run, status and export. `report.py` adds the report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from memcram.cli import complete, options
from memcram.cli.backend import Backend, with_backend
from memcram.cli.command import Group
from memcram.cli.console import (
    STREAM,
    check_output,
    print_fields,
    print_json,
    print_report,
    print_table,
    write_output,
)
from memcram.cli.report import report
from memcram.cli.study_view import study_progress, watch
from memcram.errors import UsageError
from memcram.files import is_folder

if TYPE_CHECKING:
    from memcram.models.modes import Layout
    from memcram.study.spec import Spec
    from memcram.study.store import Store

# Seconds.
_MIN_INTERVAL, _MAX_INTERVAL = 0.1, 86_400


@click.group(cls=Group, epilog="Example: memcram study new pocket && memcram study run pocket.toml")
def study() -> None:
    """Measure a grid of models, recipes, texts, lengths and K.

    A study is described by a TOML file (docs/studies.md). Its rows are stored in a folder
    NAME.study, so that an interrupted run can be continued.
    """


study.add_command(report)


@study.command()
@click.argument("name", required=False, metavar="NAME|MODEL", shell_complete=complete.models)
@options.output("FILE", "Spec to write.  [default: NAME.toml]")
@click.option(
    "--scale",
    type=click.FloatRange(min=0, max=1, min_open=True),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Shrink the study: samples × S (at least 2); of each list of lengths and vectors, the "
    "fraction √S is kept (at least 3), evenly spaced, with the first and the last.",
)
@click.option(
    "--layout",
    type=click.Choice(["mem", "mem+bos"]),
    default="mem",
    show_default=True,
    help="What is fed before the text: the vectors, or the vectors and a BOS.",
)
@click.option("--list", "as_list", is_flag=True, help="List the named studies.")
@options.stacked(options.force, options.json)
def new(
    name: str | None,
    output: str | None,
    scale: float,
    layout: "Layout",
    as_list: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write the spec of a named study, or a starter spec for any MODEL.

    The named studies repeat, one per model, the measurements of Kuratov et al. (2025) and Tarasov
    et al. (2026), and those that the latter published after their paper.

    \b
    Examples:
      memcram study new --list
      memcram study new pythia-160m --scale 0.1
      memcram study new ./my-model -o mine.toml
    """
    from memcram.study import named

    if as_list:
        studies = named.named_studies()
        if as_json:
            print_json({"studies": [{"name": s.name, "model": s.model} for s in studies]})
        else:
            print_table(["name", "model", "kind"], [[s.name, s.model, s.kind] for s in studies])
        return
    if name is None:
        raise UsageError(
            "got nothing", argument="name", allowed="a named study (see --list) or a model"
        )
    text = named.spec_text(name, scale, layout)
    target = output or f"{named.short_name(name)}.toml"
    check_output(target, force=force)
    write_output(target, text.encode())
    if target == STREAM:
        return
    report = {"output": target, "run": f"memcram study run {shlex.quote(target)}"}
    print_report(report, as_json=as_json)


@study.command()
@click.argument("spec", metavar="SPEC|STORE", shell_complete=complete.files)
@click.option(
    "--store",
    metavar="DIR",
    shell_complete=complete.files,
    help="Folder for the rows.  [default: NAME.study next to SPEC]",
)
@options.number("--limit", help="Maximum number of texts to measure.")
@click.option("--dry-run", is_flag=True, help="Show the grid without measuring.")
@with_backend
@options.stacked(options.device, options.json, options.quiet)
def run(
    spec: str,
    store: str | None,
    limit: int | None,
    dry_run: bool,
    backend: Backend,
    device: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the study that SPEC describes, or continue STORE.

    Finished texts are skipped and texts in progress continue where they were, so after Ctrl-C, a
    kill or a full disk the same command continues.

    With --backend ray the texts are crammed by several workers, on this machine or on a cluster.

    \b
    Examples:
      memcram study run pocket.toml
      memcram study run pocket.toml --dry-run
      memcram study run pocket.study --limit 100
      memcram study run pocket.toml --backend ray --workers 2
    """
    from memcram.study.read import read_spec

    backend.check()
    place = Path(spec)
    if is_folder(place):
        if store is not None:
            raise UsageError(
                f"{spec!r} is a store itself", argument="store", allowed="only with a spec"
            )
        opened = _open(spec)
        read = read_spec(opened.spec_path, opened.spec_folder)
        opened.close()
        folder = place
    else:
        read = read_spec(place)
        folder = Path(store) if store else place.with_name(f"{read.study.name}.study")
    if dry_run:
        _show_grid(read, as_json=as_json)
        return

    from memcram.study.runner import open_store, run_study

    with backend.connect() as cluster:
        workers = None
        if cluster is not None:
            from memcram.distributed.study import RayWorkers

            workers = RayWorkers(cluster, device)
        opened = open_store(folder, read)
        with opened.lock(), study_progress(quiet=quiet) as report:
            run_study(read, opened, device=device, limit=limit, on_progress=report, workers=workers)
    _show_status(opened, as_json=as_json)


@study.command()
@click.argument("store", shell_complete=complete.files)
@click.option("--watch", "watching", is_flag=True, help="Refresh until nothing is left to do.")
@click.option(
    "--interval",
    type=float,
    metavar="S",
    help="Seconds between refreshes, with --watch.  [default: 2]",
)
@options.json
def status(store: str, watching: bool, interval: float | None, as_json: bool) -> None:
    """Show the progress, the failures and the time left of STORE.

    With --watch, a terminal shows one line per cell that has work left: texts done, in progress and
    failed, and the time left. Elsewhere each refresh prints one line, with --json one JSON object.
    It ends when nothing is left to do, when the run that writes the store ends, or at Ctrl-C.

    \b
    Examples:
      memcram study status pocket.study
      memcram study status pocket.study --json
      memcram study status pocket.study --watch --interval 10
    """
    opened = _open(store)
    if interval is not None and not watching:
        raise UsageError("allowed only with --watch", argument="interval")
    if interval is not None and not _MIN_INTERVAL <= interval <= _MAX_INTERVAL:
        allowed = f"{_MIN_INTERVAL} to {_MAX_INTERVAL:,}"
        raise UsageError(argument="interval", got=interval, allowed=allowed)
    if watching:
        watch(opened, 2.0 if interval is None else interval, as_json=as_json)
    else:
        _show_status(opened, as_json=as_json)


@study.command()
@click.argument(
    "stores", nargs=-1, required=True, metavar="STORE...", shell_complete=complete.files
)
@options.output(
    "DIR|PREFIX",
    "A folder for rows.parquet and rows.csv, or the prefix of the two files' names.",
    required=True,
)
@click.option(
    "--run-file",
    is_flag=True,
    help="Also write PREFIX.run.json with specs, settings, versions and progress, for a report.",
)
@options.stacked(options.force, options.json)
def export(
    stores: tuple[str, ...], output: str, run_file: bool, force: bool, as_json: bool
) -> None:
    """Write the rows of one or more STOREs as Parquet and CSV.

    Several stores make one table. The measures of rows of the kind probe are also written, to
    PREFIX.probe.parquet and PREFIX.probe.csv.

    \b
    Examples:
      memcram study export pocket.study -o pocket
      memcram study export pocket.study -o pocket --run-file
      memcram study export pocket.study pythia-160m.study -o results/ --force
    """
    from memcram.study.probe_values import table_of
    from memcram.study.results import export_rows
    from memcram.study.runfile import run_file_bytes
    from memcram.study.store import gather

    if output.endswith("/") and not Path(output).is_dir():
        raise UsageError(f"the folder {output!r} does not exist", argument="output")
    opened = [_open(store) for store in stores]
    rows = gather(opened)
    runs = run_file_bytes(opened) if run_file else None
    probes = table_of(opened)
    files = export_rows(rows, Path(output), force=force, run_file=runs, probes=probes)
    print_report({"rows": len(rows), "files": [str(path) for path in files]}, as_json=as_json)


def _open(folder: str) -> "Store":
    from memcram.study.store import Store

    return Store(Path(folder))


def _show_status(store: "Store", *, as_json: bool) -> None:
    counts = store.counts()
    failures = store.failures()
    runs = store.runs()
    report: dict[str, Any] = {
        "store": str(store.folder),
        "done": counts.done,
        "pending": counts.pending,
        "failed": counts.failed,
        "kept_aside": counts.kept_aside,
        "runs": len(runs),
        "tokens": sum(one["tokens"] for one in runs),
        "token_steps": sum(one["token_steps"] for one in runs),
        "seconds_left": counts.seconds_left,
    }
    if as_json:
        named = [{"task": task, "reason": reason} for task, reason in failures]
        print_json(report | {"failures": named})
        return
    print_fields(report)
    for reason in dict.fromkeys(reason for _, reason in failures):
        count = sum(one == reason for _, one in failures)
        click.echo(f"failed ({count}): {reason}")


def _show_grid(spec: "Spec", *, as_json: bool) -> None:
    from memcram.study.cells import cell_samples, cells
    from memcram.study.grid import max_token_steps, study_recipe

    rows: list[dict[str, Any]] = []
    for load in spec.loads:
        for cell in cells(spec):
            entry = spec.study.texts[cell.entry]
            recipe = study_recipe(spec, cell.recipe)
            texts = cell_samples(spec, cell)
            cap = entry.lengths_up_to
            # The length of a horizon depends on the model, which is not loaded here.
            longest = cell.length if cap is None else cap
            cost = None
            if longest is not None:
                positions = longest * cell.condition.times + cell.inputs - 1
                crammed = cell.condition.is_crammed
                cost = texts * (max_token_steps(recipe, positions) if crammed else positions)
            rows.append(
                {
                    "model": load.entry.id,
                    "condition": cell.condition.name or load.condition,
                    "recipe": cell.recipe,
                    "source": entry.name,
                    "length": cell.length if cap is None else f"2 to {cap}",
                    "vectors": cell.vectors,
                    "texts": texts,
                    "token_steps_at_most": cost,
                }
            )
    known = [row["token_steps_at_most"] for row in rows]
    report = {
        "study": spec.study.name,
        "cells": len(rows),
        "texts": sum(row["texts"] for row in rows),
        "token_steps_at_most": None if None in known else sum(known),
    }
    if as_json:
        print_json(report | {"grid": rows})
        return
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    print_fields(report)
