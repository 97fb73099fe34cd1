"""export."""

from pathlib import Path

import click

from memcram.cli import options
from memcram.cli.codec import open_archive, open_model
from memcram.cli.command import Command
from memcram.cli.console import print_report


@click.command(cls=Command)
@click.argument("runtime")
@click.argument("archive")
@click.option("-o", "--output", metavar="DIR", required=True, help="Folder to create.")
@options.stacked(options.archive_model, options.config, options.device, options.json)
def export(
    runtime: str,
    archive: str,
    output: str,
    model: str | None,
    config: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Export ARCHIVE for another program, RUNTIME, with a README that says how to decode it.

    RUNTIME is transformers: safetensors for generate(inputs_embeds=...). Every chunk is decoded
    first; an archive that needs corrections or raw bytes is refused, because only memcram applies
    them.

    \b
    Example:
      memcram export transformers poem.txt.mem.safetensors -o poem-vectors
    """
    from memcram.export import check_folder, get_exporter
    from memcram.export import export as export_archive

    get_exporter(runtime)
    check_folder(Path(output))
    opened = open_archive(archive)
    target = open_model(opened, model, config, device)
    folder = export_archive(opened, target, runtime, output)
    summary = opened.summary()
    report = {
        "output": str(folder),
        "files": len(list(folder.iterdir())),
        **{name: summary[name] for name in ("tokens", "vectors", "chunks", "tokens_guarded")},
        "min_margin": summary["min_margin"],
    }
    print_report(report, as_json=as_json)
