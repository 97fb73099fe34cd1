"""The command line. Commands hold no logic; heavy imports wait until a command needs them."""

import io
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import click

from memcram.cli.bound import bound
from memcram.cli.codec import compress, decompress, inspect, verify
from memcram.cli.command import ShownError
from memcram.cli.complete import completion
from memcram.cli.console import writing
from memcram.cli.explain import explain
from memcram.cli.export import export, import_
from memcram.cli.horizon import horizon
from memcram.cli.hub import pull, push
from memcram.cli.models import models
from memcram.cli.plan import plan
from memcram.cli.study import study
from memcram.cli.ui import ui
from memcram.errors import Interrupted, MemcramError

INTERRUPTED = 130
# A Ctrl-C this soon (seconds) after another must not interrupt the saving of finished chunks.
_IMPATIENCE = 2.0


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: memcram compress book.txt && memcram decompress book.txt.mem.safetensors -o -",
)
@click.version_option(package_name="memcram", message="%(prog)s %(version)s")
def cli() -> None:
    """Cram a text into a few input vectors of a frozen language model, and decode it exactly.

    Exit codes: 0 done, 1 the reader of the output closed the pipe, 2 invalid usage or input, 3 an
    archive that can't be trusted, 130 interrupted.
    """


for command in (
    compress,
    decompress,
    inspect,
    verify,
    explain,
    export,
    import_,
    push,
    pull,
    horizon,
    plan,
    study,
    bound,
    models,
    ui,
    completion,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every expected failure is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the stream is closed
            # A name that the encoding of the output lacks must not fail a run.
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, _Interrupt())
    code = run(arguments)
    # A Ctrl-C while the interpreter shuts down would only change the exit code.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Like `main`, but returns the exit code."""
    try:
        with writing("standard output"):  # of help texts; commands catch their own errors
            cli.main(args=arguments, prog_name="memcram", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except ShownError as error:
        return _fail(error.format_message(), error.code)
    except MemcramError as error:
        return _fail(str(error), error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), 2)
    except (KeyboardInterrupt, click.Abort) as error:
        # click turns a KeyboardInterrupt into an Abort with that as its cause.
        causes = [one for one in (error, error.__cause__) if isinstance(one, Interrupted)]
        left = str(causes[0]) if causes else "nothing was written"
        return _fail(f"interrupted; {left}", INTERRUPTED)
    return 0


class _Interrupt:
    """Raises KeyboardInterrupt at Ctrl-C, but not again for one that follows at once."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def __call__(self, signal_number: int, frame: FrameType | None) -> None:
        before, self._last = self._last, time.monotonic()
        if self._last - before > _IMPATIENCE:
            raise KeyboardInterrupt


def _fail(message: str, code: int) -> int:
    click.echo(f"memcram: {' '.join(message.split())}", err=True)
    return code
