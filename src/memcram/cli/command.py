"""Define commands whose errors name options as the user types them."""

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
            argument = error.argument and self._shown(error.argument)
            shown = error.message(argument, force=self._shown("force"))
            raise ShownError(shown, error.exit_code) from error

    def _shown(self, argument: str) -> str:
        # A parameter that may be repeated has a plural name, such as `models`.
        names = [_longest(one) for one in self.params if one.name in (argument, f"{argument}s")]
        return names[0] if names else argument


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command


def _longest(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.make_metavar(click.get_current_context()).strip("[].")
