"""Commands that are not carried out."""

from typing import IO, Any

import click


class Refused(click.ClickException):
    """The command was refused, and why; told as `broker <command>: <why>`."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        context = click.get_current_context(silent=True)
        self._command = "broker" if context is None else context.command_path

    def show(self, file: IO[Any] | None = None) -> None:
        """Say why."""
        click.echo(f"{self._command}: {self.format_message()}", file=file, err=file is None)


class WrongUse(Refused):
    """The command cannot be carried out as it was given, or where it was given."""

    exit_code = 2
