"""The commands `push` and `pull`: archives and studies on the Hugging Face Hub."""

import sys
from pathlib import Path

import click

from memcram.cli import complete, options
from memcram.cli.command import Command
from memcram.cli.console import is_terminal, print_report
from memcram.errors import UsageError
from memcram.files import contents


@click.command(cls=Command)
@click.argument("source", metavar="ARCHIVE|STORE", shell_complete=complete.files)
@click.argument("repo")
@click.option("--private", is_flag=True, help="Create a private repository; refuse a public one.")
@click.option(
    "--revision", metavar="BRANCH", help="Branch to commit to, created if needed.  [default: main]"
)
@click.option(
    "--license",
    "license_id",
    metavar="ID",
    help="Licence in the card, such as cc-by-4.0.  [default: none]",
)
@click.option("--dry-run", is_flag=True, help="Write the repository to a folder; upload nothing.")
@options.output("DIR", "Folder for --dry-run.  [default: the name of the repository]")
@options.stacked(options.json, options.quiet)
def push(
    source: str,
    repo: str,
    private: bool,
    revision: str | None,
    license_id: str | None,
    dry_run: bool,
    output: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Upload an archive or a study to the Hugging Face Hub.

    REPO is OWNER/NAME. An archive becomes a model repository with a card that explains how to
    decode it, a study's STORE a data set with its rows and tokens as Parquet. Anyone who can read
    the repository can restore the text. Log in with `hf auth login` or set HF_TOKEN; HF_ENDPOINT
    names another hub.

    \b
    Examples:
      memcram push poem.txt.mem.safetensors me/poem --private --license cc-by-4.0
      memcram push pocket.study me/pocket-study
      memcram push pocket.study me/pocket-study --dry-run -o pocket-hub
    """
    from memcram.export import hub

    if output is not None and not dry_run:
        raise UsageError("only --dry-run writes a folder", argument="output")
    if dry_run:
        folder = Path(output or repo.rpartition("/")[2])
        kind = hub.write_repository(source, repo, folder, license_id=license_id)
        files, size = contents(folder)
        report = {"output": str(folder), "repo": repo, "repo_type": kind}
        print_report(report | {"files": files, "bytes": size}, as_json=as_json)
        return
    _progress_bars(quiet=quiet)
    pushed = hub.push(source, repo, private=private, revision=revision, license_id=license_id)
    print_report(vars(pushed), as_json=as_json)


@click.command(cls=Command)
@click.argument("repo")
@options.output(
    "FILE|DIR", "Archive or store to write.  [default: the archive's name, or NAME.study]"
)
@click.option("--file", metavar="NAME", help="The archive to download, if there are several.")
@click.option("--revision", metavar="REV", help="Branch, tag or commit.  [default: main]")
@options.stacked(options.force, options.json, options.quiet)
def pull(
    repo: str,
    output: str | None,
    file: str | None,
    revision: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Download an archive or a study from the Hugging Face Hub.

    Nothing is written unless all checks pass. REPO is OWNER/NAME, or datasets/OWNER/NAME for a data
    set if a model has the same name.

    \b
    Examples:
      memcram pull me/poem
      memcram pull me/pocket-study -o pocket.study
      memcram pull me/poem --revision v2 -o poem.mem.safetensors --force
    """
    from memcram.export import hub

    _progress_bars(quiet=quiet)
    pulled = hub.pull(repo, output, file=file, revision=revision, force=force)
    report = vars(pulled) | {"output": str(pulled.output)}
    print_report(report, as_json=as_json)


def _progress_bars(*, quiet: bool) -> None:
    """Turn off the bars of huggingface_hub for `--quiet` and without a terminal."""
    from huggingface_hub.utils import disable_progress_bars

    if quiet or not is_terminal(sys.stderr):
        disable_progress_bars()
