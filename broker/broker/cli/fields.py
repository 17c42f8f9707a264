"""The body of a PUT, made of options, `--field`s and a file."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from broker.cli.arguments import NULL, Command, OrNone

_NONE = "none"


@dataclass(frozen=True, slots=True)
class Field:
    """An option that sets a field; `path` has a dot for a field of an object in the document.

    The broker judges the value: `choices` are for help and completion.
    """

    option: str
    path: str
    type: click.ParamType[Any]
    help: str
    choices: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """The name of the option's value."""
        return "field_" + self.path.replace(".", "__")

    def decorate(self, function: Command) -> Command:
        """Give a command this option."""
        metavar = "|".join(self.choices) if self.choices else self.type.name.upper()
        option = click.option(
            self.option,
            self.parameter,
            type=self.type if _NONE in self.choices else OrNone(self.type),
            metavar=metavar,
            help=self.help,
            shell_complete=lambda _context, _option, word: [
                each for each in self.choices if each.startswith(word)
            ],
        )
        return option(function)


def field_options(fields: tuple[Field, ...]) -> Callable[[Command], Command]:
    """Take an option for each field, `--field` for any other, and `--file`."""

    def decorate(function: Command) -> Command:
        function = click.option(
            "--file",
            "file",
            type=click.File("rb"),
            help="A JSON object with fields; - reads it from the standard input.",
        )(function)
        function = click.option(
            "--field",
            "others",
            multiple=True,
            metavar="NAME=JSON",
            help="Any field, as JSON, or as text where it is none. May be repeated.",
        )(function)
        for field in reversed(fields):
            function = field.decorate(function)
        return function

    return decorate


def body_of(fields: tuple[Field, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Put the body together: the file first, then `--field`s, then the options for fields."""
    body: dict[str, Any] = {}
    if options["file"] is not None:
        body = _object_in(options["file"].read())
    for text in options["others"]:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.UsageError(f'--field takes NAME=JSON, not "{text}".')
        _set(body, name, _json_or_text(value))
    for field in fields:
        value = options[field.parameter]
        if value is not None:
            _set(body, field.path, None if value is NULL else value)
    return body


def json_in(content: bytes) -> Any:
    """Read a file that was given. Raises UsageError."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise click.UsageError(f"The file is not JSON: {error}.") from None


def _object_in(content: bytes) -> dict[str, Any]:
    document = json_in(content)
    if not isinstance(document, dict):
        raise click.UsageError("The file has no JSON object.")
    return document


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _set(body: dict[str, Any], path: str, value: Any) -> None:
    outer, dot, inner = path.partition(".")
    if not dot:
        body[path] = value
        return
    within = body.setdefault(outer, {})
    if not isinstance(within, dict):
        raise click.UsageError(f"{outer} is no object, so it has no {inner}.")
    within[inner] = value
