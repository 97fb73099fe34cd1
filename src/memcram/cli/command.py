"""Commands whose errors name the options as the user typed them."""

from typing import Any

import click

from memcram.errors import MemcramError


class ShownError(click.ClickException):
    """An error of the library, with the names of the command line and its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Command(click.Command):
    """A command that shows errors of the library under its own names: `--steps` for `steps`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            ShownError: in place of a `MemcramError`, with its message and exit code.
        """
        try:
            return super().invoke(ctx)
        except MemcramError as error:
            raise ShownError(error.message(self._shown(error.argument)), error.exit_code) from error

    def _shown(self, argument: str | None) -> str | None:
        for parameter in self.params:
            if parameter.name == argument:
                return _longest(parameter)
        return argument


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def _longest(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.make_metavar(click.get_current_context()).strip("[].")
