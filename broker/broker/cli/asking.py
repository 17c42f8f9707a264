"""Questions before what cannot be undone."""

import sys
from collections.abc import Callable

import click

from broker.cli.arguments import Command
from broker.cli.failure import Refused, WrongUse


def yes_option(function: Command) -> Command:
    """Take `--yes`."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function)


def ask(question: Callable[[], str], *, yes: bool) -> None:
    """Go on if a person at a terminal wants to; `question` is worked out only if it is asked.

    Raises WrongUse where nobody can be asked, and Refused if the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongUse(
            "This cannot be undone, and there is no terminal to ask on. Repeat it with --yes."
        )
    if not click.confirm(f"{question()}\nGo on?", err=True):
        raise Refused("Nothing was changed.")
