"""The command `completion`, and what the shell offers for names and files.

Nothing here imports torch: the shell runs memcram at every press of the Tab key.
"""

import click
from click.shell_completion import CompletionItem, get_completion_class

from memcram.cli.command import Command
from memcram.cli.console import echo

# The keys of `RECIPES`, `EXPORTERS` and `IMPORTERS` and the packaged models; a test compares them.
RECIPE_NAMES = (
    "default",
    "direct",
    "low-dim",
    "direction",
    "kuratov2025",
    "kuratov2025+t1",
    "tarasov2026",
    "tarasov2026+low-dim",
)
EXPORT_NAMES = ("transformers", "peft", "vllm", "llama-cpp")
IMPORT_NAMES = ("peft",)
MODEL_NAMES = ("pocket",)


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a completion script for SHELL.

    It completes commands, options, names and files. SHELL is bash (4.4 or newer), zsh or fish.

    \b
    Examples:
      memcram completion bash > ~/.local/share/bash-completion/completions/memcram
      memcram completion zsh > "${fpath[1]}/_memcram"
      memcram completion fish > ~/.config/fish/completions/memcram.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # click has all three
    echo(script(context.find_root().command, {}, "memcram", "_MEMCRAM_COMPLETE").source())


def files(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell complete the path of a file or folder."""
    return [CompletionItem(incomplete, type="file")]


def models(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a packaged model, or else a path."""
    return _names(MODEL_NAMES, incomplete) or files(context, parameter, incomplete)


def recipes(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a recipe."""
    return _names(RECIPE_NAMES, incomplete)


def exports(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a program that archives can be exported to."""
    return _names(EXPORT_NAMES, incomplete)


def imports(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a program that prompts can be imported from."""
    return _names(IMPORT_NAMES, incomplete)


def _names(names: tuple[str, ...], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
