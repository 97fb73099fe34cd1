"""Errors a person can act on: one line that names what was given and what is allowed."""


class MemcramError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 2


class UsageError(MemcramError):
    """An argument is wrong: its name, what it got and what it allows."""


class TextError(MemcramError):
    """A text can't be used: missing, empty, not UTF-8."""


class ModelError(MemcramError):
    """A model can't be loaded or used, and what to do about it."""


class ArchiveError(MemcramError):
    """An archive can't be trusted: damaged, foreign, or made with another model."""

    exit_code = 3


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a sentence that says what is left."""
