"""What every command that speaks to a running broker is told: where it is, and how to print."""

import os
from collections.abc import Callable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar

import click

from broker.secret_files import UnusableSecret, with_secrets

if TYPE_CHECKING:
    from broker.cli.connection import Connection

Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)

DEFAULT_URL = "http://localhost:8080"
_KEPT = "broker.cli.remote."


class Remote:
    """Where the broker is, and whether a person or a program reads what is printed."""

    def __init__(self, context: click.Context) -> None:
        kept = context.meta
        try:
            environ = with_secrets(os.environ, "BROKER_API_KEY")
        except UnusableSecret as unusable:
            raise click.UsageError(str(unusable)) from None
        self._url = kept.get(_KEPT + "url") or environ.get("BROKER_URL") or DEFAULT_URL
        self._api_key = kept.get(_KEPT + "api_key") or environ.get("BROKER_API_KEY")
        self.as_json = bool(kept.get(_KEPT + "as_json"))

    def connect(self) -> "Connection":
        """Return the way to the broker; nothing is sent yet. Raises WrongUse."""
        from broker.cli.connection import Connection

        return Connection(self._url, self._api_key)


def _keep(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value:
        context.meta[_KEPT + str(option.name)] = value


def remote_options(function: Decorated) -> Decorated:
    """Take `--url`, `--api-key` and `--json`, before a command's name or behind it."""
    options = (
        click.option(
            "--url",
            metavar="URL",
            expose_value=False,
            callback=_keep,
            help=f"Where the broker is; BROKER_URL, else {DEFAULT_URL}.",
        ),
        click.option(
            "--api-key",
            metavar="KEY",
            expose_value=False,
            callback=_keep,
            help="Who asks, where the broker wants to know; BROKER_API_KEY or BROKER_API_KEY_FILE.",
        ),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            expose_value=False,
            callback=_keep,
            help="Print the broker's own JSON.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def remote(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its Remote, as its first argument, and the options that make it."""

    def called(*arguments: Any, **options: Any) -> None:
        function(Remote(click.get_current_context()), *arguments, **options)

    return remote_options(update_wrapper(called, function))
