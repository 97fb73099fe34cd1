"""The commands `export` and `import`: exchange vectors with other programs."""

from pathlib import Path

import click

from memcram.cli import complete, options
from memcram.cli.codec import open_archive, open_model
from memcram.cli.command import Command
from memcram.cli.console import print_report
from memcram.files import check_writable, contents, write_atomically


@click.command(cls=Command)
@click.argument("runtime", shell_complete=complete.exports)
@click.argument("archive", shell_complete=complete.files)
@options.output("DIR", "Folder to create.", required=True)
@options.stacked(options.archive_model, options.config, options.device)
@click.option(
    "--dtype",
    metavar="DTYPE",
    help="Dtype that vllm will load the model in.  [default: the archive's]",
)
@options.json
def export(
    runtime: str,
    archive: str,
    output: str,
    model: str | None,
    config: str | None,
    device: str | None,
    dtype: str | None,
    as_json: bool,
) -> None:
    """Export the vectors of ARCHIVE for another program, RUNTIME.

    RUNTIME is transformers (safetensors for generate(inputs_embeds=...)), peft (a prompt-tuning
    adapter for each chunk), vllm (prompt embeddings and a client) or llama-cpp (vectors for
    llama_batch and a script; only for GGUF models). A README explains how to decode the text. Every
    chunk is decoded first; an archive that needs corrections or raw bytes is refused, because only
    memcram applies them.

    \b
    Examples:
      memcram export transformers poem.txt.mem.safetensors -o poem-vectors
      memcram export peft poem.txt.mem.safetensors -o poem-adapters
      memcram export vllm poem.txt.mem.safetensors -o poem-vllm --dtype bfloat16
      memcram export llama-cpp poem.txt.mem.safetensors -o poem-llama
    """
    from memcram.export import check_folder, get_exporter
    from memcram.export import export as export_archive

    get_exporter(runtime, dtype)
    check_folder(Path(output))
    opened = open_archive(archive)
    target = open_model(opened, model, config, device)
    folder = export_archive(opened, target, runtime, output, dtype=dtype)
    summary = opened.summary()
    report = {
        "output": str(folder),
        "files": contents(folder)[0],
        **{name: summary[name] for name in ("tokens", "vectors", "chunks", "tokens_guarded")},
        "min_margin": summary["min_margin"],
    }
    print_report(report, as_json=as_json)


@click.command("import", cls=Command)
@click.argument("runtime", shell_complete=complete.imports)
@click.argument("folder", metavar="DIR", shell_complete=complete.files)
@options.output("FILE", "safetensors file to write.", required=True)
@options.stacked(options.force, options.json)
def import_(runtime: str, folder: str, output: str, force: bool, as_json: bool) -> None:
    """Import a prompt that another program, RUNTIME, has trained.

    RUNTIME is peft: DIR is a prompt-tuning adapter of a causal LM. Its vectors are written to FILE
    as one tensor, mem (K, width).

    \b
    Example:
      memcram import peft my-adapter -o my-prompt.safetensors
    """
    import safetensors.torch

    from memcram.export import get_importer

    read = get_importer(runtime)
    check_writable(Path(output), force=force)
    mem = read(folder)
    write_atomically(Path(output), safetensors.torch.save({"mem": mem}))
    vectors, width = mem.shape
    dtype = str(mem.dtype).removeprefix("torch.")
    report = {"output": output, "vectors": vectors, "width": width, "dtype": dtype}
    print_report(report, as_json=as_json)
