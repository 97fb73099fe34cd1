"""Errors a user can act on: one line that names what was given and what is allowed."""

import textwrap
from importlib import import_module
from typing import Final


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"

    def __reduce__(self) -> str:
        return "NOTHING"  # an error from another process has the same object


NOTHING: Final = _Nothing()
"""Stands for a value that was not given, where None is a value."""


class MemcramError(Exception):
    """Base class of all errors raised on purpose.

    The message of an error about a value reads `argument: got VALUE, allowed: WHAT`; other errors
    are a sentence, led by the argument where there is one.

    Args:
        problem: what is wrong, where `got` and `allowed` do not say it.
        argument: name of the Python argument or setting that is wrong. The command line shows its
            own name for it (`--steps`).
        got: the value it had.
        allowed: what it may be.
        force_to: what the argument `force` would do about it, such as "replace it".

    Attributes:
        exit_code: exit code of the command line.

    Examples:
        >>> str(MemcramError(argument="steps", got=0, allowed="1 or more"))
        'steps: got 0, allowed: 1 or more'
        >>> str(MemcramError("the text is empty", argument="text"))
        'text: the text is empty'
    """

    exit_code = 2

    def __init__(
        self,
        problem: str = "",
        *,
        argument: str | None = None,
        got: object = NOTHING,
        allowed: str | None = None,
        force_to: str | None = None,
    ) -> None:
        self.problem = problem
        self.argument = argument
        self.got = got
        self.allowed = allowed
        self.force_to = force_to
        super().__init__(problem)

    def __str__(self) -> str:
        """The message, beginning with the Python name of the argument."""
        return self.message(self.argument)

    def message(self, argument: str | None, force: str = "force=True") -> str:
        """Format the message with other names of arguments, such as `--steps` and `--force`."""
        said = (f"{argument}: " if argument else "") + (self.problem or f"got {self.got!r}")
        if self.allowed is not None:
            said += f", allowed: {self.allowed}"
        if self.force_to is not None:
            said += f"; pass {force} to {self.force_to}"
        return said


def first_line(error: BaseException, longest: int = 200) -> str:
    """Return the first line of any error's message, at most `longest` characters, or its type."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return textwrap.shorten(lines[0], longest, placeholder=" …")


class UsageError(MemcramError):
    """An argument has a wrong value."""


def require(what: str, *packages: str, extra: str = "study", argument: str | None = None) -> None:
    """Check that optional packages are installed.

    Args:
        what: needs them; a plural.
        packages: names to import.
        extra: of memcram, which installs them.
        argument: what errors call it.

    Raises:
        UsageError: a package is missing; says how to install it.
    """
    for name in packages:
        try:
            import_module(name)
        except ImportError as error:
            problem = f"{what} need {name}: pip install 'memcram[{extra}]'"
            raise UsageError(problem, argument=argument) from error


class TextError(MemcramError):
    """A text cannot be used: missing, empty, not UTF-8."""


class ModelError(MemcramError):
    """A model cannot be loaded or used; the message says what to do about it."""


class ArchiveError(MemcramError):
    """An archive cannot be trusted: damaged, not an archive, or made with another model."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a sentence that says what was kept."""
