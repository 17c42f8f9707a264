"""A group of commands of which only the one that is named is imported."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """Finds `command` in the module of a name in `broker.cli.commands`; its help has sections."""

    def __init__(
        self, *arguments: Any, sections: Mapping[str, Mapping[str, str]], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._sections = sections
        self._modules = {
            name: module for section in sections.values() for name, module in section.items()
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands, in the order of the sections."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        module = self._modules.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(f"broker.cli.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, each command with the first sentence of its help."""
        width = max(map(len, self._modules))
        for title, names in self._sections.items():
            with formatter.section(title):
                found = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [
                        (name.ljust(width), command.get_short_help_str(formatter.width))
                        for name, command in found
                        if command is not None
                    ]
                )
